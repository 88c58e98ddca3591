/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "lib/base/hex.h"
#include "lib/image/digest.h"
#include "lib/repo/gc.h"
#include "lib/repo/last_image.h"
#include "lib/repo/repo_parent.h"
#include "tests/unit/ingest-fixture.h"

#define HOST "web1.example"
#define DISK "vda"

/* ---- a repository that can only be written to, and what its client keeps ------------------------- */

struct scene {
	struct fixture disk;
	struct repo *repo;		     /* with write rights */
	struct store *store;		     /* the repository's, in memory */
	struct store *state;		     /* in memory, while nobody has it open */
	uint8_t secrets[CRYPT_SECRETS_SIZE]; /* full rights */
};

static struct scene scene_new(void)
{
	struct scene s = { .disk = server_fixture() };
	uint8_t write_only[CRYPT_SECRETS_SIZE];
	struct crypt *full = NULL, *c = NULL;
	struct err e = { 0 };

	assert_int_equal(crypt_new(&full, &e), 0);
	crypt_export(full, CRYPT_RIGHTS_FULL, s.secrets);
	crypt_export(full, CRYPT_RIGHTS_WRITE, write_only);
	crypt_free(full);
	assert_int_equal(crypt_import(write_only, &c, &e), 0);
	assert_int_equal(store_memory_new(&s.store), 0);
	s.repo = repo_fixture_new(s.store, c);
	assert_int_equal(store_memory_new(&s.state), 0);
	fixture_write(&s.disk, AMBRO_REQUIRE_WHOLE);
	return s;
}

static void scene_done(struct scene *s)
{
	store_free(s->state);
	repo_free(s->repo);
	fixture_done(&s->disk);
}
#define _cleanup_scene_ _cleanup_(scene_done)

/* What is kept is opened; the state is lent to it. */
static struct last_image *scene_open(struct scene *s, struct err *note)
{
	struct err ignored = { 0 };
	struct last_image *l = NULL;

	assert_int_equal(last_image_open(TAKE_PTR(s->state), &s->repo->format, HOST, DISK, &l,
					 note ? note : &ignored),
			 0);
	return l;
}

static void scene_close(struct scene *s, struct last_image *l)
{
	s->state = TAKE_PTR(l->store);
	last_image_free(l);
}

/* The stream of s->disk goes into the repository. NULL: it failed, as @e says. */
static struct repo_image *scene_try(struct scene *s, struct last_image *l, bool upon, struct err *e)
{
	const struct ingest_settings how = {
		.parent = upon ? l->image : NULL,
		.parent_pages = upon ? &l->pages : NULL,
		.on_page = last_image_on_page,
		.on_page_ctx = l,
	};
	struct repo_image *image = NULL;
	struct ingest_result result;

	assert_int_equal(repo_load_index(s->repo, e), 0);
	ingest_bytes(s->repo, &(struct iovec){ s->disk.image.data, s->disk.image.len }, &how,
		     &image, &result, e);
	return image;
}

static struct repo_image *scene_ingest(struct scene *s, struct last_image *l, bool upon)
{
	struct err e = { 0 };
	struct repo_image *image = scene_try(s, l, upon, &e);

	if (!image)
		fail_msg("%s", e.text);
	return image;
}

static void scene_write_full(struct scene *s)
{
	struct manifest *m = s->disk.manifest;

	m->has_parent = false;
	m->image_id[2]++;
	m->instant_ns++;
	memset(s->disk.disk, 0, m->disk_size);
	fixture_write(&s->disk, AMBRO_REQUIRE_WHOLE);
}

/* One capture as ambroctl does it: upon what is kept, if that can be. */
static void scene_capture(struct scene *s, uint64_t seed)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	struct last_image *l = scene_open(s, NULL);
	const bool upon = l->has_pages;
	struct err e = { 0 };

	if (upon) {
		fixture_write_delta(&s->disk, l->image->manifest, 7, seed);
	} else {
		scene_write_full(s);
	}
	image = scene_ingest(s, l, upon);
	if (last_image_keep(l, image, true, &e) < 0)
		fail_msg("%s", e.text);
	scene_close(s, l);
}

static int count_one(void *ctx, const char *name, uint64_t size)
{
	(void)name, (void)size;
	++*(size_t *)ctx;
	return 0;
}

static size_t scene_count(struct scene *s, const char *folder)
{
	size_t n = 0;

	assert_int_equal(store_list(s->state, folder, count_one, &n, NULL), 0);
	return n;
}

/* From here on with full rights. */
static void scene_unlock(struct scene *s)
{
	struct crypt *c = NULL;
	struct err e = { 0 };

	assert_int_equal(crypt_import(s->secrets, &c, &e), 0);
	assert_int_equal(repo_unlock(s->repo, c, &e), 0);
}

/* All images are there, and the newest is the disk. */
static void scene_check(struct scene *s, size_t images)
{
	_cleanup_(repo_images_done) struct repo_images l = { 0 };
	struct err e = { 0 };

	scene_unlock(s);
	assert_int_equal(repo_load_index(s->repo, &e), 0);
	assert_int_equal(repo_images_load(s->repo, false, &l, &e), 0);
	assert_int_equal(l.damaged, 0);
	assert_int_equal(l.count, images);
	assert_restores(s->repo, l.items[l.count - 1], s->disk.disk, s->disk.manifest->disk_size);
}

static int name_one(void *ctx, const char *name, uint64_t size)
{
	(void)size;
	snprintf(ctx, STORE_NAME_MAX + 1, "%s", name);
	return 0;
}

static void scene_name(struct scene *s, const char *folder, char ret[STORE_NAME_MAX + 1])
{
	assert_int_equal(store_list(s->state, folder, name_one, ret, NULL), 0);
}

/* ---- increments ---------------------------------------------------------------------------------- */

static void a_client_that_may_only_write_makes_increments(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	struct last_image *l = scene_open(&s, NULL);

	assert_null(l->image);
	assert_false(l->has_pages);
	scene_close(&s, l);
	for (uint64_t n = 1; n <= 4; n++) {
		scene_capture(&s, n);
		l = scene_open(&s, NULL);
		assert_true(l->has_pages);
		assert_string_equal(l->image->host, HOST);
		/* what it keeps is what the newest needs, and nothing else */
		scene_close(&s, l);
		assert_int_equal(scene_count(&s, "image/"), 1);
		assert_int_equal(scene_count(&s, "pages/"), s.disk.manifest->n_regions);
	}
	scene_check(&s, 4);
}

static void the_agent_is_shown_pages_and_no_contents(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	_cleanup_(repo_parent_freep) struct repo_parent *p = NULL;
	_cleanup_free_ uint8_t *page = malloc(AMBRO_PAGE_MAX), *plain = malloc(PARENT_CHUNK_MAX);
	struct last_image *l;
	struct err e = { 0 };

	scene_capture(&s, 1);
	l = scene_open(&s, NULL);
	assert_int_equal(repo_parent_new(s.repo, l->image, &l->pages, &p, &e), 0);
	for (uint32_t i = 0; i < l->image->manifest->n_regions; i++) {
		ssize_t n = repo_parent_ops.page(p, i, 0, page);
		struct chunk_id id;

		assert_true(n > 0);
		chunk_id_of(page, (size_t)n, &id);
		assert_memory_equal(&id, &l->image->manifest->regions[i].root, sizeof(id));
		assert_int_equal(repo_parent_ops.chunk(p, i, 0, plain), -EACCES);
	}
	scene_close(&s, l);
}

static void without_pages_the_name_is_kept(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	struct last_image *l;
	struct err e = { 0 };

	scene_capture(&s, 1);
	l = scene_open(&s, NULL);
	scene_write_full(&s);
	image = scene_ingest(&s, l, false);
	assert_int_equal(last_image_keep(l, image, false, &e), 0);
	scene_close(&s, l);
	assert_int_equal(scene_count(&s, "pages/"), 0);
	l = scene_open(&s, &e);
	assert_int_equal(e.code, 0);
	assert_false(l->has_pages);
	assert_memory_equal(l->image->hash, image->hash, sizeof(image->hash));
	scene_close(&s, l);
}

/* ---- what is not believed ------------------------------------------------------------------------ */

static void what_is_of_another_is_ignored(void **state)
{
	struct {
		const char *host, *disk;
		uint8_t id;
		unsigned int shift;
		const char *says;
	} cases[] = { { "web2", DISK, 0, 0, HOST },
		      { HOST, "vdb", 0, 0, DISK },
		      { HOST, DISK, 1, 0, "another repository" },
		      { HOST, DISK, 0, 1, "another size" } };
	_cleanup_scene_ struct scene s = scene_new();

	scene_capture(&s, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct repo_format f = s.repo->format;
		struct err note = { 0 };
		struct last_image *l = NULL;

		f.id[0] ^= cases[i].id;
		f.chunk_shift += cases[i].shift;
		assert_int_equal(last_image_open(TAKE_PTR(s.state), &f, cases[i].host,
						 cases[i].disk, &l, &note),
				 0);
		assert_null(l->image);
		assert_false(l->has_pages);
		assert_non_null(strstr(note.text, cases[i].says));
		scene_close(&s, l);
	}
}

/* One byte of it rots: said, and the next capture is full, right, and kept. */
static void flip_one(struct scene *s, const char *name, uint64_t offset)
{
	struct err note = { 0 };
	struct last_image *l;

	assert_int_equal(store_memory_flip(s->state, name, offset, 0x10), 0);
	l = scene_open(s, &note);
	assert_false(l->has_pages);
	assert_true(note.code < 0);
	assert_true(*note.text);
	scene_close(s, l);
	scene_capture(s, 1);
	l = scene_open(s, &note);
	assert_int_equal(note.code, 0);
	assert_true(l->has_pages);
	scene_close(s, l);
}

static void what_rotted_is_not_believed_and_made_anew(void **state)
{
	static const char *const folders[] = { "image/", "pages/" };
	_cleanup_scene_ struct scene s = scene_new();
	char name[STORE_NAME_MAX + 1];
	uint64_t size;

	scene_capture(&s, 1);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		for (unsigned int k = 0; k < 8; k++) {
			scene_name(&s, folders[i], name);
			assert_int_equal(store_size(s.state, name, &size, NULL), 0);
			flip_one(&s, name, size * k / 8);
		}
	}
}

static void a_lost_page_is_no_parent(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	char name[STORE_NAME_MAX + 1];
	struct err note = { 0 };
	struct last_image *l;

	scene_capture(&s, 1);
	scene_name(&s, "pages/", name);
	assert_int_equal(store_del(s.state, name, NULL), 0);
	l = scene_open(&s, &note);
	assert_false(l->has_pages);
	/* that it was put there is known all the same */
	assert_non_null(l->image);
	assert_true(*note.text);
	scene_close(&s, l);
	scene_capture(&s, 2);
	scene_capture(&s, 3);
	scene_check(&s, 3);
}

/* A page of it was never put: it is not said to have pages. */
static void what_is_incomplete_is_not_kept_as_a_parent(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	struct ingest_result result;
	struct err e = { 0 };
	struct last_image *l;

	assert_int_equal(repo_load_index(s.repo, &e), 0);
	assert_int_equal(fixture_ingest(&s.disk, s.repo, &image, &result), 0);
	l = scene_open(&s, NULL);
	assert_true(last_image_keep(l, image, true, &e) < 0);
	scene_close(&s, l);
	l = scene_open(&s, NULL);
	assert_false(l->has_pages);
	assert_non_null(l->image);
	scene_close(&s, l);
}

/* ---- killed --------------------------------------------------------------------------------------- */

/*
 * An increment whose state meets @fault at change @at. *ret_ended: it got to its end without. Returns how many images it
 * made: who is dead cannot read the parent's pages, and commits none.
 */
static size_t scene_meet(struct scene *s, uint64_t at, enum store_fault fault, bool *ret_ended)
{
	_cleanup_(repo_image_freep) struct repo_image *image = NULL;
	const uint64_t size = s->disk.manifest->disk_size;
	struct store *below = TAKE_PTR(s->state);
	_cleanup_free_ uint8_t *before = malloc(size);
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };
	struct last_image *l;
	int r = -EIO;

	assert_int_equal(store_fault_new(below, &s->state), 0);
	l = scene_open(s, NULL);
	assert_true(l->has_pages);
	assert_non_null(before);
	memcpy(before, s->disk.disk, size);
	memcpy(hash, l->image->hash, sizeof(hash));
	fixture_write_delta(&s->disk, l->image->manifest, 7, 2);
	store_fault_at(l->store, at, fault, -EIO);
	image = scene_try(s, l, true, &e);
	if (image)
		r = last_image_keep(l, image, true, &e);
	if (r < 0)
		assert_true(*e.text);
	*ret_ended = r >= 0;
	scene_close(s, l);
	s->state = store_fault_release(TAKE_PTR(s->state));
	l = scene_open(s, &e);
	assert_int_equal(e.code, 0); /* it is never damaged */
	assert_non_null(l->image);
	/* the next delta is upon this one */
	if (!memcmp(hash, l->image->hash, sizeof(hash))) {
		assert_true(l->has_pages);
		memcpy(s->disk.disk, before, size);
	}
	scene_close(s, l);
	return image != NULL;
}

static void killed_anywhere_leaves_a_state_that_is_right(void **state)
{
	static const enum store_fault faults[] = { STORE_FAULT_DEAD, STORE_FAULT_DEAD_AFTER,
						   STORE_FAULT_FAIL, STORE_FAULT_LOST_REPLY };

	for (size_t k = 0; k < ARRAY_SIZE(faults); k++) {
		bool ended = false;
		uint64_t at;

		for (at = 0; !ended; at++) {
			_cleanup_scene_ struct scene s = scene_new();
			size_t images;

			scene_capture(&s, 1);
			images = 1 + scene_meet(&s, at, faults[k], &ended);
			/* two more, upon whatever that left */
			scene_capture(&s, 3);
			scene_capture(&s, 4);
			assert_int_equal(scene_count(&s, "image/"), 1);
			assert_int_equal(scene_count(&s, "pages/"), s.disk.manifest->n_regions);
			scene_check(&s, images + 2);
		}
		/* pages of four regions, the image, the older one, older pages */
		assert_true(at > 6 && at < 30);
	}
}

/* ---- what the repository says --------------------------------------------------------------------- */

static enum last_image_fate scene_fate(struct scene *s)
{
	struct last_image *l = scene_open(s, NULL);
	struct repo_image *found;
	enum last_image_fate fate;
	struct err e = { 0 };

	assert_non_null(l->image);
	assert_int_equal(last_image_find(l, s->repo, &fate, &found, &e), 0);
	/* with write rights it cannot be read */
	assert_null(found);
	scene_close(s, l);
	return fate;
}

static void what_became_of_it_is_told(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	char name[STORE_NAME_MAX + 1], hex[2 * REPO_NAME_HASH + 1];
	uint8_t hash[REPO_NAME_HASH];
	struct err e = { 0 };
	struct last_image *l;

	scene_capture(&s, 1);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_THERE);
	l = scene_open(&s, NULL);
	memcpy(hash, l->image->hash, sizeof(hash));
	scene_close(&s, l);
	/* whoever put it: these keys could not tell */
	gc_object_name(GC_FORGET, hash, name);
	assert_int_equal(store_put(s.store, name, "x", 1, &e), 0);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_FORGOTTEN);
	assert_int_equal(store_del(s.store, name, &e), 0);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_THERE);
	snprintf(name, sizeof(name), "images/%s", hex_encode(hash, sizeof(hash), hex));
	assert_int_equal(store_memory_flip(s.store, name, 200, 1), 0);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_DAMAGED);
	assert_int_equal(store_memory_flip(s.store, name, 200, 1), 0);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_THERE);
	assert_int_equal(store_del(s.store, name, &e), 0);
	assert_int_equal(scene_fate(&s), LAST_IMAGE_GONE);
}

/* Who can read gets the image with the answer, and it was read once. */
static void it_comes_as_the_repository_has_it(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	_cleanup_(repo_image_freep) struct repo_image *found = NULL;
	struct store *below = s.repo->store;
	struct store_counts counts;
	enum last_image_fate fate;
	struct last_image *l;
	struct err e = { 0 };

	scene_capture(&s, 1);
	scene_unlock(&s);
	l = scene_open(&s, NULL);
	/* what is kept here is not what counts */
	l->image->time_ns++;
	assert_int_equal(store_fault_new(below, &s.repo->store), 0);
	assert_int_equal(last_image_find(l, s.repo, &fate, &found, &e), 0);
	counts = store_fault_counts(s.repo->store);
	s.repo->store = store_fault_release(s.repo->store);
	assert_int_equal(fate, LAST_IMAGE_THERE);
	assert_int_equal(counts.gets, 1);
	assert_memory_equal(found->hash, l->image->hash, sizeof(found->hash));
	assert_string_equal(found->disk, DISK);
	assert_int_equal(found->time_ns, l->image->time_ns - 1);
	scene_close(&s, l);
}

/* Its bytes have their name, and are no image: that is no loss. */
static void what_cannot_be_read_is_there_all_the_same(void **state)
{
	_cleanup_scene_ struct scene s = scene_new();
	char name[STORE_NAME_MAX + 1], hex[2 * REPO_NAME_HASH + 1];
	uint8_t bytes[200] = "no image";
	struct repo_image *found;
	enum last_image_fate fate;
	struct last_image *l;
	struct err e = { 0 };

	scene_capture(&s, 1);
	scene_unlock(&s);
	l = scene_open(&s, NULL);
	digest_of(&(struct iovec){ bytes, sizeof(bytes) }, 1, l->image->hash);
	snprintf(name, sizeof(name), "images/%s",
		 hex_encode(l->image->hash, sizeof(l->image->hash), hex));
	assert_int_equal(store_put(s.store, name, bytes, sizeof(bytes), &e), 0);
	assert_int_equal(last_image_find(l, s.repo, &fate, &found, &e), 0);
	assert_int_equal(fate, LAST_IMAGE_THERE);
	assert_null(found);
	scene_close(&s, l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_that_may_only_write_makes_increments),
		cmocka_unit_test(the_agent_is_shown_pages_and_no_contents),
		cmocka_unit_test(without_pages_the_name_is_kept),
		cmocka_unit_test(what_is_of_another_is_ignored),
		cmocka_unit_test(what_rotted_is_not_believed_and_made_anew),
		cmocka_unit_test(a_lost_page_is_no_parent),
		cmocka_unit_test(what_is_incomplete_is_not_kept_as_a_parent),
		cmocka_unit_test(killed_anywhere_leaves_a_state_that_is_right),
		cmocka_unit_test(what_became_of_it_is_told),
		cmocka_unit_test(it_comes_as_the_repository_has_it),
		cmocka_unit_test(what_cannot_be_read_is_there_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
