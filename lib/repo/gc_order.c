/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_order.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"

/* Of each disk its name, and its newest image so far. */
struct order_disk {
	char *host, *disk;
	size_t newest; /* place in the order */
};

struct order_disks {
	struct order_disk *items;
	size_t n, room;
};

static void disks_done(struct order_disks *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->items[i].host);
		free(d->items[i].disk);
	}
	free(d->items);
}

void gc_order_done(struct gc_order *o)
{
	for (size_t i = 0; i < o->n; i++)
		repo_image_free(o->items[i].held);
	free(o->items);
	*o = (struct gc_order){ 0 };
}

/* The number of the disk of @image, a new one if need be; -ENOMEM. */
static ssize_t disks_find(struct order_disks *d, const struct repo_image *image, size_t place)
{
	struct order_disk *it;

	for (size_t i = 0; i < d->n; i++) {
		if (!strcmp(d->items[i].host, image->host) &&
		    !strcmp(d->items[i].disk, image->disk))
			return (ssize_t)i;
	}
	if (ARRAY_ROOM(d->items, d->n, d->room, 16) < 0)
		return -ENOMEM;
	it = &d->items[d->n++];
	*it = (struct order_disk){ .host = strdup(image->host),
				   .disk = strdup(image->disk),
				   .newest = place };
	return it->host && it->disk ? (ssize_t)d->n - 1 : -ENOMEM;
}

int gc_order_read(const struct gc_view *v, uint32_t number, struct repo_image **ret, struct err *e)
{
	char name[REPO_IMAGE_NAME_MAX];
	struct repo_image *image;
	int r = repo_image_get(v->repo, v->images.items[number], &image, e);

	/* another prune deleted it since it was listed */
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		err_prefix(e, "an image cannot be read, so that nobody knows what it needs, and "
			      "nothing is deleted");
		return r;
	}
	if (image->time_ns > v->now_ns && image->time_ns - v->now_ns > GC_CLOCK_SLACK_NS) {
		err_set(e, -ETIME,
			"%s was made %" PRIu64 " s in the future: the clock of this or of "
			"another machine is wrong, so nothing is deleted",
			repo_image_name(image, name), (image->time_ns - v->now_ns) / 1000000000);
		repo_image_free(image);
		return -ETIME;
	}
	*ret = image;
	return 1;
}

/* Two images of one disk and one instant: the one that comes first by its hash. */
static int order_add(struct gc_order *o, struct order_disks *d, uint32_t number,
		     const struct repo_image *image)
{
	const size_t place = o->n;
	const ssize_t disk = disks_find(d, image, place);
	struct gc_ordered *it = &o->items[place];

	if (disk < 0)
		return (int)disk;
	*it = (struct gc_ordered){ .number = number,
				   .disk = (uint32_t)disk,
				   .time_ns = image->time_ns };
	if (it->time_ns > o->items[d->items[disk].newest].time_ns)
		d->items[disk].newest = place;
	o->n++;
	return 0;
}

static int order_compare(const void *a, const void *b)
{
	const struct gc_ordered *x = a, *y = b;

	if (x->newest != y->newest)
		return x->newest ? -1 : 1;
	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static int order_fill(const struct gc_view *v, struct cancel *c, struct order_disks *d,
		      struct gc_order *o, struct err *e)
{
	for (size_t i = 0; i < v->images.count; i++) {
		_cleanup_(repo_image_freep) struct repo_image *image = NULL;
		int r;

		if (cancel_raised(c))
			return err_set(e, -ECANCELED, "interrupted");
		if (gc_view_image_dead(v, v->images.items[i]))
			continue;
		r = gc_order_read(v, (uint32_t)i, &image, e);
		if (r < 0)
			return r;
		if (!image)
			continue;
		if (order_add(o, d, (uint32_t)i, image) < 0)
			return err_oom(e);
		if (o->n <= GC_ORDER_HELD)
			o->items[o->n - 1].held = TAKE_PTR(image);
	}
	return 0;
}

int gc_order_load(const struct gc_view *v, struct cancel *c, struct gc_order *ret, struct err *e)
{
	_cleanup_(disks_done) struct order_disks disks = { 0 };
	_cleanup_(gc_order_done) struct gc_order o = { 0 };
	int r;

	o.items = calloc(v->images.count + 1, sizeof(*o.items));
	if (!o.items)
		return err_oom(e);
	r = order_fill(v, c, &disks, &o, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < disks.n; i++)
		o.items[disks.items[i].newest].newest = true;
	o.newest = disks.n;
	qsort(o.items, o.n, sizeof(*o.items), order_compare);
	*ret = o;
	o = (struct gc_order){ 0 };
	return 0;
}
