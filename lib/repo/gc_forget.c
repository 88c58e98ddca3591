/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tombstones: putting them and taking them back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/gc.h"
#include "lib/repo/gc_clock.h"

static int gc_image_exists(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	char hex[2 * REPO_NAME_HASH + 1], name[STORE_NAME_MAX];
	uint64_t size;
	int n;

	snprintf(name, sizeof(name), "images/%s", hex_encode(hash, REPO_NAME_HASH, hex));
	n = store_size(r->store, name, &size, e);
	return n == -ENOENT ? err_set(e, n, "there is no image %.16s", hex) : n;
}

int gc_is_forgotten(struct repo *r, const uint8_t hash[REPO_NAME_HASH], struct err *e)
{
	char name[GC_OBJECT_NAME_SIZE];
	uint64_t size;
	int n = gc_image_exists(r, hash, e);

	if (n < 0)
		return n;
	n = store_size(r->store, gc_object_name(GC_FORGET, hash, name), &size, e);
	return n == -ENOENT ? 0 : n < 0 ? n : 1;
}

int gc_forget(struct repo *r, const uint8_t (*hashes)[REPO_NAME_HASH], size_t n, uint64_t now_ns,
	      struct err *e)
{
	if (r->format.encrypted && !r->crypt)
		return err_set(e, -ENOKEY, "the repository is encrypted: give its key");
	for (size_t i = 0; i < n; i++) {
		int k = gc_image_exists(r, hashes[i], e);

		if (k < 0)
			return k;
	}
	for (size_t i = 0; i < n; i++) {
		struct gc_object o = { .kind = GC_FORGET };
		struct gc_clock clock;
		int k;

		gc_clock_read(&clock, now_ns);
		gc_clock_stamp(&clock, &o);
		memcpy(o.hash, hashes[i], sizeof(o.hash));
		k = gc_object_put(r->store, r->format.id, r->crypt, &o, e);
		if (k < 0)
			return k;
	}
	return 0;
}

int gc_unforget(struct repo *r, const uint8_t hash[REPO_NAME_HASH], bool sure, struct err *e)
{
	struct gc_object o = { .kind = GC_FORGET };
	char hex[2 * REPO_NAME_HASH + 1];
	int n;

	memcpy(o.hash, hash, sizeof(o.hash));
	n = gc_object_get(r->store, r->format.id, r->crypt, &o, e);
	if (n >= 0 && !sure && io_realtime_ns() > o.time_ns + GC_GRACE_DEFAULT_NS) {
		return err_set(
			e, -EBUSY,
			"image %.16s was forgotten longer ago than the grace period: a prune "
			"may be deleting it now; if none runs, --yes takes it back",
			hex_encode(hash, REPO_NAME_HASH, hex));
	}
	if (n == 0 || n == -EBADMSG)
		n = gc_object_del(r->store, GC_FORGET, hash, e);
	if (n < 0 && n != -ENOENT)
		return n;

	/* after it: a prune looks for the tombstone right before it deletes the image */
	return gc_image_exists(r, hash, e);
}
