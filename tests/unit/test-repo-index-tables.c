/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Index files that were merged together: their one table of packs; and asking them for many names in order. */
#include "lib/repo/repo_index_file.h"
#include "lib/repo/repo_index_scan.h"
#include "tests/unit/both-kinds.h"
#include "tests/unit/repo-index-fixture.h"

#define PACKS	     1000u
#define EACH	     5u /* entries of a pack */
#define ENTRIES	     ((uint64_t)PACKS * EACH)
#define FILE_ENTRIES 1300u /* of the merged files: four, each larger than is read at once */
#define FILES	     4u
#define TABLE	     (UINT64_C(40) * PACKS)

/* ---- a store that counts what is read, and once cannot ------------------------------------------------ */

struct lossy {
	struct store store;
	struct store *below;
	uint64_t gets, bytes;
	uint64_t at; /* that get fails; UINT64_MAX: none */
	int error;
};

static int lossy_put(struct store *s, const char *name, const struct iovec *parts, size_t n,
		     struct err *e)
{
	return store_putv(((struct lossy *)s)->below, name, parts, n, e);
}
static int lossy_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
		     struct err *e)
{
	struct lossy *x = (struct lossy *)s;

	x->bytes += len;
	if (x->gets++ == x->at)
		return err_set(e, x->error, "%s was not to be had", name);
	return store_get(x->below, name, offset, buf, len, e);
}
static int lossy_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	return store_size(((struct lossy *)s)->below, name, ret, e);
}
static int lossy_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx,
		      struct err *e)
{
	return store_list(((struct lossy *)s)->below, prefix, fn, ctx, e);
}
static int lossy_del(struct store *s, const char *name, struct err *e)
{
	return store_del(((struct lossy *)s)->below, name, e);
}
static void lossy_free(struct store *s)
{
	store_free(((struct lossy *)s)->below);
	free(s);
}
static const struct store_ops lossy_ops = { .put = lossy_put,
					    .get = lossy_get,
					    .size = lossy_size,
					    .list = lossy_list,
					    .del = lossy_del,
					    .free = lossy_free };

/* ---- four files ------------------------------------------------------------------------------------- */

struct fixture {
	struct lossy *lossy;
	struct store *store; /* the same */
	struct crypt *crypt; /* NULL: not encrypted */
	struct repo_index_file *files[FILES];
};

/* Packs @first … @first + @n - 1: pack P has the things from P * EACH on. */
static void put_packs(struct fixture *f, uint64_t first, uint64_t n, uint8_t ret[REPO_NAME_HASH])
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;

	assert_int_equal(repo_index_builder_new(fixture_id, f->crypt, &b, NULL), 0);
	for (uint64_t p = first; p < first + n; p++)
		fixture_add_pack(b, p, p * EACH, EACH, fixture_name, f->crypt != NULL);
	assert_int_equal(repo_index_builder_put(b, f->store, ret, NULL), 0);
}

static void delete_superseded(struct fixture *f)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	char name[80];

	for (size_t i = 0; i < repo_index_files(x); i++) {
		bool old;
		const uint8_t *hash = repo_index_file(x, i, &old);

		if (old) {
			assert_int_equal(store_del(f->store, fixture_index_name(hash, name), NULL),
					 0);
		}
	}
}

/* Open each on its own, the way the index does. */
static void open_files(struct fixture *f)
{
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	struct repo_index_source from = { .store = f->store };
	struct crypt_session *session = NULL;
	char name[80];

	assert_int_equal(repo_index_files(x), FILES);
	memcpy(from.repo_id, fixture_id, sizeof(from.repo_id));
	if (f->crypt)
		assert_int_equal(crypt_session_index(f->crypt, &session, NULL), 0);
	from.session = session;
	for (size_t i = 0; i < FILES; i++) {
		bool old;
		const uint8_t *hash = repo_index_file(x, i, &old);
		uint64_t size;

		assert_int_equal(store_size(f->store, fixture_index_name(hash, name), &size, NULL),
				 0);
		assert_int_equal(repo_index_file_open(&from, hash, size, &f->files[i], NULL), 0);
	}
	crypt_session_free(session);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct repo_index_merge how = { .most = UINT64_MAX, .file_entries = FILE_ENTRIES };
	struct repo_index *x;
	uint8_t hash[REPO_NAME_HASH];
	bool done = false;

	assert_non_null(f);
	f->lossy = calloc(1, sizeof(*f->lossy));
	assert_non_null(f->lossy);
	*f->lossy = (struct lossy){ .store = { &lossy_ops }, .at = UINT64_MAX };
	assert_int_equal(store_memory_new(&f->lossy->below), 0);
	f->store = &f->lossy->store;
	if (both_kinds_sealed(state))
		assert_int_equal(crypt_new(&f->crypt, NULL), 0);
	put_packs(f, 0, PACKS / 2, hash);
	put_packs(f, PACKS / 2, PACKS / 2, hash);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	assert_int_equal(repo_index_merge_files(x, &how, &done, NULL), 0);
	assert_true(done);
	repo_index_free(x);
	delete_superseded(f);
	open_files(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < FILES; i++)
		repo_index_file_free(f->files[i]);
	store_free(f->store);
	crypt_free(f->crypt);
	free(f);
	return 0;
}

static void assert_finds_all(const struct fixture *f, const struct repo_index *x)
{
	for (uint64_t i = 0; i < ENTRIES; i++) {
		struct repo_place place;
		struct chunk_id id;

		fixture_name(i, &id);
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), 0);
		fixture_assert_place(x, &place, i / EACH, (uint32_t)(i % EACH), &id,
				     f->crypt != NULL);
	}
}

/* ---- the table of packs ----------------------------------------------------------------------------- */

static void files_that_were_merged_together_have_one_table_which_is_read_once(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x = NULL;

	for (size_t i = 0; i < FILES; i++) {
		assert_int_equal(f->files[i]->n_packs, PACKS);
		assert_null(f->files[i]->whole);
		assert_memory_equal(f->files[i]->packs_digest, f->files[0]->packs_digest,
				    REPO_NAME_HASH);
	}
	f->lossy->gets = f->lossy->bytes = 0;
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	/* the beginning of each, and the table; the last one supersedes, but all files are known when they are listed again */
	assert_int_equal(f->lossy->gets, FILES + 1);
	assert_true(f->lossy->bytes <= FILES * 32768 + TABLE + REPO_SEAL_EXTRA);
	assert_int_equal(repo_index_packs(x), PACKS);
	assert_finds_all(f, x);
}

static void a_small_file_is_read_in_one_go(void **state)
{
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];
	const uint64_t limits[] = { FIXTURE_ON_DEMAND, 30000 };

	put_packs(f, PACKS, 4, hash);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		_cleanup_(repo_index_freep) struct repo_index *x = NULL;
		struct repo_place place;
		struct chunk_id id;

		f->lossy->gets = 0;
		x = fixture_open(f->store, f->crypt, limits[i]);
		assert_int_equal(f->lossy->gets, FILES + 2);
		fixture_name((uint64_t)PACKS * EACH + 7, &id);
		assert_int_equal(repo_index_find(x, &id, NULL, &place, NULL), 0);
		fixture_assert_place(x, &place, PACKS + 1, 2, &id, f->crypt != NULL);
		/* its bytes are not kept: either its entries are, or a block is read */
		assert_int_equal(f->lossy->gets, i ? FILES + 2 : FILES + 3);
	}
}

static void a_rotten_table_is_refused_where_it_is_read_and_harmless_elsewhere(void **state)
{
	struct fixture *f = *state;
	const struct repo_index_source from = { .store = f->store };
	size_t refused = 0;

	for (size_t i = 0; i < FILES; i++) {
		_cleanup_(repo_index_freep) struct repo_index *x = NULL;
		struct repo_index_file *file = f->files[i];
		const uint64_t at = file->packs_at + 40 * i + 50;
		struct err e = { 0 };
		char name[80];
		int r;

		fixture_index_name(file->hash, name);
		assert_true(at < file->blocks_at && at >= file->packs_at);
		assert_int_equal(store_memory_flip(f->lossy->below, name, at, 2), 0);
		r = repo_index_open_within(f->store, fixture_id, f->crypt, FIXTURE_ON_DEMAND, &x,
					   &e);
		if (r == 0) {
			assert_finds_all(f, x);
		} else {
			assert_int_equal(r, -EBADMSG);
			assert_non_null(strstr(e.text, name));
			refused++;
		}
		if (!f->crypt) {
			assert_int_equal(repo_index_file_packs(&from, file, &e), -EBADMSG);
			assert_null(file->packs);
		}
		assert_int_equal(store_memory_flip(f->lossy->below, name, at, 2), 0);
	}
	assert_int_equal(refused, 1);
}

/* Whichever read it is that finds the file gone: it was merged meanwhile, and all is loaded anew. */
static void a_file_that_disappears_while_it_is_read_is_no_error(void **state)
{
	struct fixture *f = *state;

	for (uint64_t at = 0; at < FILES + 1; at++) {
		_cleanup_(repo_index_freep) struct repo_index *x = NULL;

		f->lossy->gets = 0;
		f->lossy->at = at;
		f->lossy->error = -ENOENT;
		x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
		assert_true(f->lossy->gets > FILES + 1);
		f->lossy->at = UINT64_MAX;
		assert_finds_all(f, x);
	}
}

static void an_error_of_the_store_is_told(void **state)
{
	struct fixture *f = *state;

	for (uint64_t at = 0; at < FILES + 1; at++) {
		struct repo_index *x = NULL;
		struct err e = { 0 };

		f->lossy->gets = 0;
		f->lossy->at = at;
		f->lossy->error = -EIO;
		assert_int_equal(repo_index_open_within(f->store, fixture_id, f->crypt, 0, &x, &e),
				 -EIO);
		assert_null(x);
		assert_int_equal(e.code, -EIO);
	}
	f->lossy->at = UINT64_MAX;
}

/* ---- many names in order ---------------------------------------------------------------------------- */

static int id_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct chunk_id));
}

/* Half of them are there. */
static struct chunk_id *names_new(size_t *ret_n)
{
	struct chunk_id *names = calloc(2 * ENTRIES, sizeof(*names));

	assert_non_null(names);
	for (uint64_t i = 0; i < ENTRIES; i++) {
		fixture_name(i, &names[2 * i]);
		names[2 * i + 1] = names[2 * i];
		names[2 * i + 1].b[31] ^= 1;
	}
	*ret_n = 2 * ENTRIES;
	return names;
}

/* Both ways say the same, in all places of each name. */
static void assert_scan_agrees(const struct repo_index *x, const struct chunk_id *names, size_t n)
{
	_cleanup_(repo_index_scan_freep) struct repo_index_scan *s = repo_index_scan_new(x);

	assert_non_null(s);
	for (size_t i = 0; i < n; i++) {
		uint64_t after = UINT64_MAX;
		struct repo_place a, b;
		int r;

		assert_int_equal(repo_index_scan_find(s, &names[i], NULL, &a, NULL),
				 repo_index_find(x, &names[i], NULL, &b, NULL));
		do {
			r = repo_index_find(x, &names[i], &after, &a, NULL);
			assert_int_equal(repo_index_scan_find(s, &names[i], &after, &b, NULL), r);
			if (r == 0) {
				assert_int_equal(a.ordinal, b.ordinal);
				assert_int_equal(a.pack, b.pack);
				assert_memory_equal(&a.entry, &b.entry, sizeof(a.entry));
				after = a.ordinal;
			}
		} while (r == 0);
	}
}

static void names_in_any_order_are_found_as_one_by_one(void **state)
{
	struct fixture *f = *state;
	uint8_t hash[REPO_NAME_HASH];
	struct repo_index *x;
	struct chunk_id *names;
	size_t n;

	/* more files than there are windows; their packs are in the merged ones, too */
	for (uint64_t i = 0; i < 70; i++)
		put_packs(f, i * 2, 2, hash);
	x = fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	names = names_new(&n);
	assert_scan_agrees(x, names, n / 4);
	qsort(names, n, sizeof(*names), id_compare);
	assert_scan_agrees(x, names, n);
	repo_index_free(x);
	x = fixture_open(f->store, f->crypt, FIXTURE_RESIDENT);
	assert_scan_agrees(x, names, n / 4);
	repo_index_free(x);
	free(names);
}

static void names_in_order_are_found_in_few_reads(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	_cleanup_(repo_index_scan_freep) struct repo_index_scan *s = repo_index_scan_new(x);
	struct chunk_id *names;
	size_t n;

	assert_non_null(s);
	names = names_new(&n);
	qsort(names, n, sizeof(*names), id_compare);
	f->lossy->gets = 0;
	for (size_t i = 0; i < n; i++) {
		struct repo_place place;
		const int r = repo_index_scan_find(s, &names[i], NULL, &place, NULL);

		assert_true(r == 0 || r == -ENOENT);
	}
	/* of each file 1, 2, 4, 8 blocks and the rest; and once more where one file ends and the next begins */
	assert_true(f->lossy->gets <= FILES * 6);
	free(names);
}

static void a_damaged_block_is_told_each_time_it_is_read(void **state)
{
	struct fixture *f = *state;
	_cleanup_(repo_index_freep) struct repo_index *x =
		fixture_open(f->store, f->crypt, FIXTURE_ON_DEMAND);
	_cleanup_(repo_index_scan_freep) struct repo_index_scan *s = repo_index_scan_new(x);
	struct chunk_id *names;
	size_t n, damaged = 0;
	char name[80];

	assert_non_null(s);
	names = names_new(&n);
	qsort(names, n, sizeof(*names), id_compare);
	fixture_index_name(f->files[1]->hash, name);
	assert_int_equal(store_memory_flip(f->lossy->below, name, f->files[1]->blocks_at + 9000, 1),
			 0);
	for (size_t i = 0; i < n; i++) {
		struct repo_place place;
		struct err e = { 0 };
		const int r = repo_index_scan_find(s, &names[i], NULL, &place, &e);

		assert_true(r == 0 || r == -ENOENT || r == -EBADMSG);
		damaged += r == -EBADMSG && strstr(e.text, name);
	}
	/* a block, or a few that were to be read with it */
	assert_true(damaged >= REPO_INDEX_BLOCK && damaged <= 10 * REPO_INDEX_BLOCK);
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(files_that_were_merged_together_have_one_table_which_is_read_once),
		BOTH(a_small_file_is_read_in_one_go),
		BOTH(a_rotten_table_is_refused_where_it_is_read_and_harmless_elsewhere),
		BOTH(a_file_that_disappears_while_it_is_read_is_no_error),
		BOTH(an_error_of_the_store_is_told),
		BOTH(names_in_any_order_are_found_as_one_by_one),
		BOTH(names_in_order_are_found_in_few_reads),
		BOTH(a_damaged_block_is_told_each_time_it_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
