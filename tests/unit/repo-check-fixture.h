/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repo-check-fixture - what the tests of repo_check share: scenes with images, and what was reported. */
#pragma once

#include "lib/repo/repo_check.h"
#include "tests/unit/repo-scene.h"

static inline void capture(const struct scene *s, const unsigned int *seeds, size_t n,
			   uint64_t time_ns)
{
	_cleanup_(repo_freep) struct repo *r = scene_open(s);
	struct err e = { 0 };

	assert_int_equal(repo_load_index(r, &e), 0);
	assert_int_equal(scene_capture(r, seeds, n, time_ns, NULL), 0);
}

struct reports {
	size_t n, of_images;
	char objects[2048], whats[4096], images[2048];
	uint64_t offset, length; /* of the last stretch */
};

static inline void note(char *to, size_t size, const char *what)
{
	size_t n = strlen(to);

	snprintf(to + n, size - n, "%s\n", what);
}

static inline void on_damage(void *ctx, const struct repo_damage *d)
{
	struct reports *r = ctx;

	r->n++;
	if (d->object)
		note(r->objects, sizeof(r->objects), d->object);
	note(r->whats, sizeof(r->whats), d->what);
	if (d->image) {
		r->of_images++;
		note(r->images, sizeof(r->images), d->image);
		r->offset = d->offset;
		r->length = d->length;
	}
}

static inline struct repo_check_settings settings_full(struct reports *r)
{
	return (struct repo_check_settings){
		.parts = 1, .threads = 1, .report = on_damage, .ctx = r
	};
}

struct objects {
	struct {
		char name[STORE_NAME_MAX + 1];
		uint64_t size;
	} items[32];
	size_t n;
};

static inline int objects_add(void *ctx, const char *name, uint64_t size)
{
	struct objects *l = ctx;

	assert_true(l->n < ARRAY_SIZE(l->items));
	snprintf(l->items[l->n].name, sizeof(l->items[l->n].name), "%s", name);
	l->items[l->n++].size = size;
	return 0;
}

static inline struct objects objects_of(const struct scene *s, const char *folder)
{
	struct objects l = { 0 };

	assert_int_equal(store_list(s->memory, folder, objects_add, &l, NULL), 0);
	return l;
}
