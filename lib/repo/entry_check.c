/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/entry_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/codec.h"
#include "lib/repo/pack.h"

struct entry_checker {
	struct repo *repo; /* borrowed */
	struct codec *codec;
	uint8_t *frame, *plain;
	size_t frame_size, plain_size;
	/* of the last one */
	struct chunk_id id;
	size_t frame_len;
};

int entry_checker_new(struct repo *r, struct entry_checker **ret)
{
	_cleanup_(entry_checker_freep) struct entry_checker *k = calloc(1, sizeof(*k));

	if (!k || codec_new(CODEC_LEVEL_DEFAULT, &k->codec) < 0)
		return -ENOMEM;
	k->repo = r;
	*ret = TAKE_PTR(k);
	return 0;
}

void entry_checker_free(struct entry_checker *k)
{
	if (!k)
		return;
	codec_free(k->codec);
	free(k->frame);
	free(k->plain);
	free(k);
}

static int checker_room(uint8_t **buf, size_t *size, size_t want)
{
	void *more;

	if (want <= *size)
		return 0;
	more = realloc(*buf, want);
	if (!more)
		return -ENOMEM;
	*buf = more;
	*size = want;
	return 0;
}

static bool entry_is_page(const struct repo_entry *entry)
{
	return le32_get(entry->plain_len) & REPO_ENTRY_PAGE;
}

static int checker_prepare(struct entry_checker *k, const struct repo_entry *entry, struct err *e)
{
	const size_t plain = le32_get(entry->plain_len) & ~REPO_ENTRY_PAGE;

	if (!pack_entry_plausible(entry, k->repo->format.encrypted, REPO_PACK_MAX))
		return err_set(e, -EBADMSG, "its place in the pack cannot be");
	if (checker_room(&k->frame, &k->frame_size, le32_get(entry->frame_len)) < 0 ||
	    checker_room(&k->plain, &k->plain_size, plain) < 0)
		return err_oom(e);
	return 0;
}

/* k->frame is decrypted. */
static int checker_decode(struct entry_checker *k, const struct repo_entry *entry, struct err *e)
{
	const size_t plain = le32_get(entry->plain_len) & ~REPO_ENTRY_PAGE;
	struct chunk_id name;
	int r = 0;

	if (entry_is_page(entry)) {
		chunk_id_of(k->frame, k->frame_len, &k->id);
	} else {
		r = codec_decompress(k->codec, k->frame, k->frame_len, k->plain, plain);
		if (r == -EBADMSG)
			return err_set(e, r, "a chunk does not decode");
		if (r < 0)
			return err_set_errno(e, r, "a chunk cannot be decoded");
		chunk_id_of(k->plain, plain, &k->id);
	}
	crypt_name(k->repo->crypt, &k->id, &name);
	if (!chunk_id_equal(&name, &entry->name))
		return err_set(e, -EBADMSG, "a chunk or page is not what its name says");
	return 0;
}

int entry_check(struct entry_checker *k, const struct repo_entry *entry,
		const struct crypt_session *session, const void *stored, struct err *e)
{
	int r = checker_prepare(k, entry, e);

	if (r >= 0) {
		r = pack_entry_open(entry, k->repo->format.id, session, stored, k->frame,
				    &k->frame_len, e);
	}
	return r < 0 ? r : checker_decode(k, entry, e);
}

int entry_check_place(struct entry_checker *k, const struct repo_place *p, const void *stored,
		      struct err *e)
{
	int r = checker_prepare(k, &p->entry, e);

	if (r >= 0)
		r = repo_open_entry(k->repo, p, stored, k->frame, &k->frame_len, e);
	return r < 0 ? r : checker_decode(k, &p->entry, e);
}

const struct chunk_id *entry_checked_id(const struct entry_checker *k)
{
	return &k->id;
}

const void *entry_checked_frame(const struct entry_checker *k, size_t *ret_len)
{
	*ret_len = k->frame_len;
	return k->frame;
}
