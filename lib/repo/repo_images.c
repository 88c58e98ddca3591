/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of a repository's images, and selecting one by what a person writes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/array.h"
#include "lib/base/hex.h"
#include "lib/repo/hash_list.h"
#include "lib/repo/repo_image.h"

#define IMAGES_PREFIX	   "images/"
#define FORGET_PREFIX	   "gc/forget-"
#define SELECT_HASH_DIGITS 8u
/* Of those that a word could mean. */
#define SELECT_SHOWN 3u

char *repo_image_name(const struct repo_image *i, char ret[REPO_IMAGE_NAME_MAX])
{
	time_t t = (time_t)(i->time_ns / 1000000000u);
	char text[32] = "unknown";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(ret, REPO_IMAGE_NAME_MAX, "%s/%s/%s", i->host, i->disk, text);
	return ret;
}

/* ---- loading ------------------------------------------------------------------------------------ */

static int images_compare(const void *a, const void *b)
{
	const struct repo_image *x = *(struct repo_image *const *)a,
				*y = *(struct repo_image *const *)b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return memcmp(x->hash, y->hash, sizeof(x->hash));
}

static int images_load_one(struct repo *r, const uint8_t hash[REPO_NAME_HASH],
			   struct repo_image **ret, struct repo_images *l, struct err *e)
{
	struct err why = { 0 };
	int n;

	n = repo_image_get(r, hash, ret, &why);
	/* it was deleted since it was listed */
	if (n == -ENOENT)
		return 0;
	/* one object that somebody put there must not hide the others */
	if (n == -EBADMSG || n == -ENOTSUP || n == -EXDEV) {
		if (ARRAY_ROOM(l->damaged_hashes, l->damaged, l->damaged_allocated, 8) < 0)
			return err_oom(e);
		memcpy(l->damaged_hashes[l->damaged], hash, REPO_NAME_HASH);
		if (!l->damaged++)
			l->first_damage = why;
		return 0;
	}
	if (n < 0 && e)
		*e = why;
	return n < 0 ? n : 1;
}

int repo_images_load(struct repo *r, bool forgotten_too, struct repo_images *ret, struct err *e)
{
	_cleanup_(hash_list_done) struct hash_list forgotten = { 0 };
	_cleanup_(hash_list_done) struct hash_list all = { 0 };
	_cleanup_(repo_images_done) struct repo_images l = { 0 };
	int n;

	/* images first: one that is deleted in between is not there, and one without its tombstone is not shown */
	n = hash_list_load(r->store, IMAGES_PREFIX, &all, e);
	if (n >= 0)
		n = hash_list_load(r->store, FORGET_PREFIX, &forgotten, e);
	if (n < 0)
		return n;
	l.items = calloc(all.count + 1, sizeof(struct repo_image *));
	if (!l.items)
		return err_oom(e);
	for (size_t i = 0; i < all.count; i++) {
		bool gone = hash_list_has(&forgotten, all.items[i]);

		if (gone && !forgotten_too)
			continue;
		n = images_load_one(r, all.items[i], &l.items[l.count], &l, e);
		if (n < 0)
			return n;
		if (n == 0)
			continue;
		l.items[l.count++]->forgotten = gone;
	}
	qsort(l.items, l.count, sizeof(struct repo_image *), images_compare);
	*ret = l;
	l = (struct repo_images){ 0 };
	return 0;
}

void repo_images_done(struct repo_images *l)
{
	for (size_t i = 0; i < l->count; i++)
		repo_image_free(l->items[i]);
	free(l->items);
	free(l->damaged_hashes);
	*l = (struct repo_images){ 0 };
}

/* ---- selecting ---------------------------------------------------------------------------------- */

/* Does HOST/DISK of @i begin as @text, up to @len bytes, that end at a '/' or its end? */
static bool image_is_of(const struct repo_image *i, const char *text, size_t len)
{
	char name[REPO_IMAGE_NAME_MAX];

	if (!len)
		return true;
	snprintf(name, sizeof(name), "%s/%s/", i->host, i->disk);
	return strncmp(name, text, len) == 0 && name[len] == '/';
}

static bool image_has_hash(const struct repo_image *i, const char *text)
{
	char hex[2 * REPO_NAME_HASH + 1];

	return strlen(text) >= SELECT_HASH_DIGITS &&
	       strncmp(hex_encode(i->hash, sizeof(i->hash), hex), text, strlen(text)) == 0;
}

static bool image_matches(const struct repo_image *i, const char *text)
{
	char name[REPO_IMAGE_NAME_MAX];

	return strncmp(repo_image_name(i, name), text, strlen(text)) == 0 ||
	       image_has_hash(i, text);
}

/* "latest", "HOST/latest", "HOST/DISK/latest": how many bytes stand before it; -1: it is none of these. */
static ssize_t select_latest(const char *text)
{
	const char *slash = strrchr(text, '/');

	if (strcmp(slash ? slash + 1 : text, "latest") != 0)
		return -1;
	return slash ? slash - text : 0;
}

/* What a person wrote, and how well an image fits it. */
struct select {
	const char *text, *host; /* host: NULL: any */
	ssize_t latest;		 /* of select_latest() */
};

enum select_fit {
	SELECT_NOT,
	SELECT_BEGINS,	/* it is one of those that begin so */
	SELECT_IN_FULL, /* that is its name, also where it is the beginning of another's */
};

static enum select_fit select_fit(const struct select *s, const struct repo_image *i)
{
	char name[REPO_IMAGE_NAME_MAX];

	if (s->host && strcmp(s->host, i->host) != 0)
		return SELECT_NOT;
	if (s->latest >= 0)
		return image_is_of(i, s->text, (size_t)s->latest) ? SELECT_BEGINS : SELECT_NOT;
	if (!strcmp(repo_image_name(i, name), s->text))
		return SELECT_IN_FULL;
	return image_matches(i, s->text) ? SELECT_BEGINS : SELECT_NOT;
}

/* The names of two images of one second are equal; their hashes are not. What to do comes first: the rest may be cut off. */
static int select_ambiguous(const struct repo_images *l, const struct select *s,
			    enum select_fit fit, size_t count, struct err *e)
{
	char names[SELECT_SHOWN * (REPO_IMAGE_NAME_MAX + SELECT_HASH_DIGITS + 8)] = "";
	char name[REPO_IMAGE_NAME_MAX], hex[2 * REPO_NAME_HASH + 1];
	size_t used = 0;
	unsigned int n = 0;

	for (size_t i = 0; i < l->count && n < SELECT_SHOWN; i++) {
		if (select_fit(s, l->items[i]) != fit)
			continue;
		hex_encode(l->items[i]->hash, sizeof(l->items[i]->hash), hex);
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%.*s = %s",
					 n++ ? ", " : "", (int)SELECT_HASH_DIGITS, hex,
					 repo_image_name(l->items[i], name));
	}
	return err_set(e, -ENOTUNIQ,
		       "%.100s %s %zu images: say %sthe first digits of its hash (%s%s)", s->text,
		       fit == SELECT_IN_FULL ? "is the name of" : "could be any of", count,
		       fit == SELECT_IN_FULL ? "" : "more of its name, or ", names,
		       count > n ? ", …" : "");
}

int repo_images_select(const struct repo_images *l, const char *text, const char *host,
		       struct repo_image **ret, struct err *e)
{
	const struct select s = { .text = text, .host = host, .latest = select_latest(text) };
	enum select_fit best = SELECT_NOT;
	struct repo_image *found = NULL;
	size_t count = 0;

	/* every name begins so, but nobody means that by an empty word */
	if (!*text)
		return err_set(e, -EINVAL, "an image's name is empty");
	for (size_t i = 0; i < l->count; i++) {
		const enum select_fit fit = select_fit(&s, l->items[i]);

		if (fit == SELECT_NOT || fit < best)
			continue;
		count = fit > best ? 1 : count + 1;
		best = fit;
		found = l->items[i];
	}
	if (!found) {
		return err_set(e, -ENOENT, "no image %.100s%s%.64s: 'ambroctl list' shows them",
			       text, host ? " of host " : "", host ? host : "");
	}
	if (count > 1 && s.latest < 0)
		return select_ambiguous(l, &s, best, count, e);
	*ret = found;
	return 0;
}
