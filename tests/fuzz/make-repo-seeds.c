/* SPDX-License-Identifier: GPL-2.0-or-later */
/* make-repo-seeds [DIR] - the seeds of the targets pack, repo-index and sealed-head. README.md says how to run it. */
#include <string.h>

#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/tree.h"
#include "lib/repo/sealed_head.h"
#include "tests/unit/repo-index-fixture.h"

static void save(const char *dir, const char *name, uint8_t how, struct store *s,
		 const char *object)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	_cleanup_file_ FILE *f = NULL;
	char path[512];
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(store_get_all(s, object, 1u << 20, (void **)&bytes, &len, NULL), 0);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fputc(how, f), how);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
}

static void pack_fill(struct pack *p)
{
	_cleanup_(codec_freep) struct codec *codec = NULL;
	uint8_t plain[3000], frame[4096], page[64];
	struct chunk_id id;

	assert_int_equal(codec_new(1, &codec), 0);
	for (uint8_t i = 0; i < 3; i++) {
		const size_t page_len = page_make_uniform(0, 5u + i, CHUNK_ZERO, page);
		ssize_t len;

		memset(plain, i + 1, sizeof(plain));
		chunk_id_of(plain, sizeof(plain), &id);
		len = codec_compress(codec, plain, sizeof(plain), frame, sizeof(frame));
		assert_true(len > 0);
		assert_int_equal(pack_add(p, REPO_KIND_CHUNK, &id, sizeof(plain), frame,
					  (uint32_t)len, NULL),
				 0);
		chunk_id_of(page, page_len, &id);
		assert_int_equal(pack_add(p, REPO_KIND_PAGE, &id, (uint32_t)page_len, page,
					  (uint32_t)page_len, NULL),
				 0);
	}
}

static void save_pack(const char *dir, const char *name, const struct crypt *crypt, uint8_t how)
{
	_cleanup_(pack_freep) struct pack *p = NULL;
	_cleanup_(store_freep) struct store *s = NULL;
	uint8_t hash[REPO_NAME_HASH];
	char object[PACK_NAME_SIZE];

	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(pack_new(s, fixture_id, crypt, &p, NULL), 0);
	pack_fill(p);
	assert_int_equal(pack_seal(p, hash, NULL), 0);
	assert_int_equal(pack_put(p, NULL), 0);
	save(dir, name, how, s, pack_name(hash, object));
}

static void save_index(const char *dir, const char *name, uint32_t entries, uint8_t how)
{
	_cleanup_(repo_index_builder_freep) struct repo_index_builder *b = NULL;
	_cleanup_(store_freep) struct store *s = NULL;
	uint8_t hash[REPO_NAME_HASH] = { 7 };
	char object[80];

	assert_int_equal(store_memory_new(&s), 0);
	assert_int_equal(repo_index_builder_new(fixture_id, NULL, &b, NULL), 0);
	fixture_add_pack(b, 1, 0, entries, fixture_name, false);
	fixture_add_pack(b, 2, entries / 2, entries, fixture_name, false);
	assert_int_equal(repo_index_builder_supersede(b, hash), 0);
	assert_int_equal(repo_index_builder_put(b, s, hash, NULL), 0);
	save(dir, name, how, s, fixture_index_name(hash, object));
}

/* @n slots, the first one a passphrase's. */
static void save_sealed_head(const char *dir, const char *name, size_t n, uint8_t how)
{
	_cleanup_(secret_freep) struct secret *passphrase = secret_new(1, NULL);
	_cleanup_(key_pair_freep) struct key_pair *k = key_pair_generate(NULL);
	struct sealed_reader_key keys[SEALED_SLOTS_MAX] = { 0 };
	_cleanup_(sealed_head_freep) struct sealed_head *h = NULL;
	_cleanup_file_ FILE *f = NULL;
	char path[512];

	assert_true(passphrase && k);
	keys[0] = (struct sealed_reader_key){ .passphrase = passphrase,
					      .operations = KEY_WRAP_OPERATIONS_MIN,
					      .memory = KEY_WRAP_MEMORY_MIN };
	for (size_t i = 1; i < n; i++)
		memcpy(keys[i].public, k->public, KEY_SIZE);
	assert_int_equal(sealed_head_new(keys, n, SEALED_SHIFT, &h, NULL), 0);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fputc(how, f), how);
	assert_int_equal(fwrite(h->bytes, 1, h->len, f), h->len);
}

int main(int argc, char **argv)
{
	_cleanup_(crypt_freep) struct crypt *crypt = NULL;
	const char *dir = argc > 1 ? argv[1] : ".";

	assert_int_equal(crypt_new(&crypt, NULL), 0);
	save_pack(dir, "pack/clear", NULL, 0);
	save_pack(dir, "pack/clear-mended", NULL, 1);
	save_pack(dir, "pack/sealed-mended", crypt, 1);
	save_index(dir, "repo-index/empty", 0, 3);
	save_index(dir, "repo-index/one-block", 20, 3);
	save_index(dir, "repo-index/blocks", 100, 3);
	save_index(dir, "repo-index/blocks-as-they-are", 100, 0);
	/* more than is read at once */
	save_index(dir, "repo-index/large", 350, 3);
	save_sealed_head(dir, "sealed-head/one-slot", 1, 1);
	save_sealed_head(dir, "sealed-head/three-slots", 3, 1);
	save_sealed_head(dir, "sealed-head/as-it-is", 2, 0);
	return 0;
}
