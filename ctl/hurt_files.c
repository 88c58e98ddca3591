/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The images of one disk share most of their chunks, so one chunk that is lost hurts many of them, and they are looked at one
 * by one: in another image the same bytes may be another file's. Only where the whole region is the same (its hash tree's
 * root is) and the same of it is lost, the answer is, too.
 *
 * A file system is read through what the repository still has. Its own tables may be what is lost; owners.h says how that is
 * dealt with. Whatever goes wrong here changes nothing of what the check found.
 */
#include "ctl/hurt_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/region_reader.h"
#include "lib/base/array.h"
#include "lib/repo/repo_image.h"
#include "lib/repo/repo_source.h"

struct hurt_files {
	struct hurt_area *areas;
	size_t n_areas, allocated;
	bool no_memory; /* something was not noted */
	/* while they are looked at */
	const struct hurt_files_settings *settings;
	struct image_reader *image; /* of the area looked at last */
	uint8_t image_hash[REPO_NAME_HASH];
	uint64_t read; /* by readers that are gone */
};

int hurt_files_new(struct hurt_files **ret)
{
	struct hurt_files *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	*ret = h;
	return 0;
}

static void area_done(struct hurt_area *a)
{
	free(a->image);
	free(a->fs_type);
	extent_set_done(&a->lost);
}

void hurt_files_free(struct hurt_files *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n_areas; i++)
		area_done(&h->areas[i]);
	free(h->areas);
	image_reader_free(h->image);
	free(h);
}

/* ---- taking note --------------------------------------------------------------------------------- */

/*
 * XFS writes inodes back long after its log, and nothing in its own tables says that they are old (ext4 and btrfs say it). All is
 * there when it stood still, or when its maps were believed offline, which takes a log that is clean.
 */
static bool region_has_log(const struct manifest *m, const struct manifest_region *r)
{
	const char *guarantee = m->guarantee ? m->guarantee : "";

	if (!r->fs_type || strcmp(r->fs_type, "xfs") != 0)
		return false;
	return strcmp(guarantee, "filesystem-consistent") != 0 &&
	       !(r->map && !strcmp(guarantee, "offline"));
}

/* The area that @d is in. The check goes through one image after the other, so it is the last one, or new. */
static struct hurt_area *files_area(struct hurt_files *h, const struct repo_damage *d)
{
	const struct manifest_region *region = &d->of->manifest->regions[d->region];
	struct hurt_area *a = h->n_areas ? &h->areas[h->n_areas - 1] : NULL;

	if (a && a->region == d->region && !memcmp(a->hash, d->of->hash, sizeof(a->hash)))
		return a;
	if (ARRAY_ROOM(h->areas, h->n_areas, h->allocated, 16) < 0)
		return NULL;
	a = &h->areas[h->n_areas];
	*a = (struct hurt_area){
		.image = strdup(d->image),
		.time_ns = d->of->time_ns,
		.region = d->region,
		.partition = region->partition,
		.kind = region->kind,
		.start = region->start,
		.length = region->length,
		.fs_type = region->fs_type ? strdup(region->fs_type) : NULL,
		.log = region_has_log(d->of->manifest, region),
		.root = region->root,
	};
	memcpy(a->hash, d->of->hash, sizeof(a->hash));
	if (!a->image || (region->fs_type && !a->fs_type)) {
		area_done(a);
		return NULL;
	}
	h->n_areas++;
	return a;
}

void hurt_files_note(struct hurt_files *h, const struct repo_damage *d)
{
	struct hurt_area *a;

	if (!d->of || !d->length)
		return;
	a = files_area(h, d);
	if (!a || extent_set_add(&a->lost, d->offset - a->start, d->length) < 0)
		h->no_memory = true;
}

/* ---- looking ------------------------------------------------------------------------------------- */

static int area_compare(const void *x, const void *y)
{
	const struct hurt_area *a = x, *b = y;
	int r = (a->time_ns < b->time_ns) - (a->time_ns > b->time_ns);

	if (!r)
		r = memcmp(a->hash, b->hash, sizeof(a->hash));
	return r ? r : (a->region > b->region) - (a->region < b->region);
}

static bool areas_are_same(const struct hurt_area *a, const struct hurt_area *b)
{
	if (!a->lost.count || a->length != b->length || !chunk_id_equal(&a->root, &b->root) ||
	    a->lost.count != b->lost.count || !a->fs_type != !b->fs_type || a->kind != b->kind ||
	    a->log != b->log)
		return false;
	if (a->fs_type && strcmp(a->fs_type, b->fs_type) != 0)
		return false;
	return !memcmp(a->lost.items, b->lost.items, a->lost.count * sizeof(a->lost.items[0]));
}

/* The reader of its image: that of the area before, or a new one. */
static int area_open(struct hurt_files *h, const struct hurt_area *a, struct err *e)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	int r;

	if (h->image && !memcmp(h->image_hash, a->hash, sizeof(a->hash)))
		return 0;
	image_reader_free(TAKE_PTR(h->image));
	r = repo_image_get(h->settings->repo, a->hash, &image, e);
	if (r >= 0)
		r = repo_source_open(h->settings->repo, image, &h->image, e);
	memcpy(h->image_hash, a->hash, sizeof(a->hash));
	return r;
}

/* What cannot be read of @a, as bytes of the region: what is lost now, and what could not be read of the disk then. */
static int area_unreadable(const struct hurt_area *a, const struct manifest *m,
			   struct extent_set *ret)
{
	int r = 0;

	extent_for_each(x, &a->lost) {
		if (r >= 0)
			r = extent_set_add(ret, x->start, x->length);
	}
	extent_for_each(x, &m->bad) {
		const uint64_t from = MAX(x->start, a->start);
		const uint64_t to = MIN(extent_end(x), a->start + a->length);

		if (r >= 0 && from < to)
			r = extent_set_add(ret, from - a->start, to - from);
	}
	extent_set_normalise(ret);
	return r;
}

struct area_io {
	struct hurt_files *files;
	const struct hurt_area *area;
	struct region_reader *reader;
};

static int area_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	const struct area_io *io = ctx;
	const struct hurt_files_settings *s = io->files->settings;

	if (s->progress) {
		s->progress(s->ctx, io->area, io->files->read + region_reader_fetched(io->reader));
	}
	return region_reader_read(io->reader, buf, len, offset, e);
}

static int area_find(struct hurt_files *h, const struct hurt_area *a, struct owners *ret,
		     struct err *e)
{
	_cleanup_extents_ struct extent_set unreadable = { 0 };
	_cleanup_(region_reader_freep) struct region_reader *reader = NULL;
	struct area_io ctx = { .files = h, .area = a };
	const struct owners_io io = { .read = area_read, .ctx = &ctx, .size = a->length };
	int r = area_open(h, a, e);

	if (r < 0)
		return r;
	if (area_unreadable(a, image_reader_manifest(h->image), &unreadable) < 0)
		return err_oom(e);
	r = region_reader_new(h->image, a->region, &unreadable, &reader);
	if (r < 0)
		return err_set_errno(e, r, "reading %s", a->image);
	ctx.reader = reader;
	r = owners_find(a->fs_type, &io, &a->lost, h->settings->cancel, ret, e);
	if (r >= 0 && a->log && !ret->incomplete) {
		ret->incomplete = true;
		err_set(&ret->lost, -EBADMSG,
			"what only its log had when the image was made, which nobody has replayed");
	}
	h->read += region_reader_fetched(reader);
	return r;
}

/* Why nobody need ask for the files of what @a holds; NULL: ask. */
static const char *area_without_files(const struct hurt_area *a, char *buf, size_t size)
{
	/* by libblkid's names */
	static const struct {
		const char *type, *words;
	} contents[] = {
		{ "LVM2_member", "a physical volume of LVM" },
		{ "crypto_LUKS", "which is encrypted" },
		{ "BitLocker", "which is encrypted" },
		{ "linux_raid_member", "a part of a RAID" },
		{ "swap", "which has no files" },
		{ "swsuspend", "a memory image" },
	};

	if (a->kind == REGION_GAP)
		return "it lies outside of the partitions, and may be the partition table's or a boot loader's";
	if (!a->fs_type)
		return "what it holds is not known";
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		if (!strcmp(a->fs_type, contents[i].type)) {
			snprintf(buf, size, "it holds %s, %s", a->fs_type, contents[i].words);
			return buf;
		}
	}
	return NULL;
}

static int files_answer(struct hurt_files *h, struct hurt_area *a, struct err *e)
{
	const struct hurt_files_settings *s = h->settings;
	_cleanup_(owners_done) struct owners owners = { 0 };
	struct hurt_answer answer = { .area = a };
	struct err why = { 0 };
	char words[128];
	int r = 0;

	for (const struct hurt_area *b = h->areas; b < a && !answer.same; b++) {
		if (areas_are_same(a, b))
			answer.same = b;
	}
	if (!answer.same)
		answer.why = area_without_files(a, words, sizeof(words));
	if (!answer.same && !answer.why) {
		r = area_find(h, a, &owners, &why);
		answer.why = r < 0 ? why.text : NULL;
		answer.owners = r < 0 ? NULL : &owners;
	}
	a->told = answer.same ? answer.same->told : answer.owners != NULL;
	a->incomplete = answer.same ? answer.same->incomplete : owners.incomplete || owners.more;
	s->answer(s->ctx, &answer);
	if (r != -ECANCELED && r != -ENOMEM)
		return 0;
	return err_set(e, r, "%s", why.text);
}

static int files_find(struct hurt_files *h, struct err *e)
{
	struct hurt_area *const areas = h->areas;
	const size_t n = h->n_areas;
	size_t i = 0;
	int r = 0;

	while (i < n && r >= 0)
		r = files_answer(h, &areas[i++], e);
	for (; i < n; i++) {
		const struct hurt_answer none = {
			.area = &areas[i],
			.why = r == -ECANCELED ? "interrupted" : "out of memory",
		};

		h->settings->answer(h->settings->ctx, &none);
	}
	if (r >= 0 && h->no_memory)
		r = err_oom(e);
	return r;
}

int hurt_files_find(struct hurt_files *h, const struct hurt_files_settings *s, struct err *e)
{
	int r;

	if (!h->areas)
		return h->no_memory ? err_oom(e) : 0;
	for (size_t i = 0; i < h->n_areas; i++)
		extent_set_normalise(&h->areas[i].lost);
	qsort(h->areas, h->n_areas, sizeof(h->areas[0]), area_compare);
	h->settings = s;
	r = files_find(h, e);
	/* it is the repository's, which may go before we do */
	image_reader_free(TAKE_PTR(h->image));
	h->settings = NULL;
	return r;
}
