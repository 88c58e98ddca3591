/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool store_part_valid(const char *part, size_t len)
{
	if (len == 0 || part[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = part[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '-')
			return false;
	}
	return true;
}

static bool store_name_valid_n(const char *name, size_t len)
{
	const char *end = name + len, *part = name;

	/* a directory has its temporary files there */
	if (len > STORE_NAME_MAX || (len == 3 && !strncmp(name, "tmp", 3)) ||
	    (len > 3 && !strncmp(name, "tmp/", 4)))
		return false;
	for (;;) {
		const char *slash = memchr(part, '/', (size_t)(end - part));

		if (!store_part_valid(part, (size_t)((slash ? slash : end) - part)))
			return false;
		if (!slash)
			return true;
		part = slash + 1;
	}
}

bool store_name_valid(const char *name)
{
	return store_name_valid_n(name, strlen(name));
}

static int store_name_check(const char *name, struct err *e)
{
	return store_name_valid(name)
		       ? 0
		       : err_set(e, -EINVAL, "\"%s\" is no name for an object of a repository",
				 name);
}

int store_putv(struct store *s, const char *name, const struct iovec *parts, size_t n,
	       struct err *e)
{
	int r = store_name_check(name, e);

	return r < 0 ? r : s->ops->put(s, name, parts, n, e);
}

int store_put(struct store *s, const char *name, const void *bytes, size_t len, struct err *e)
{
	/* put() only reads */
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = len };

	return store_putv(s, name, &part, 1, e);
}

int store_get(struct store *s, const char *name, uint64_t offset, void *buf, size_t len,
	      struct err *e)
{
	int r = store_name_check(name, e);

	return r < 0 ? r : s->ops->get(s, name, offset, buf, len, e);
}

int store_get_all(struct store *s, const char *name, size_t most, void **ret, size_t *ret_len,
		  struct err *e)
{
	_cleanup_free_ void *buf = NULL;
	uint64_t size;
	int r;

	r = store_size(s, name, &size, e);
	if (r < 0)
		return r;
	if (size > most) {
		return err_set(e, -EFBIG, "%s has %" PRIu64 " bytes, more than %zu", name, size,
			       most);
	}
	buf = malloc(size ? size : 1);
	if (!buf)
		return err_oom(e);
	r = store_get(s, name, 0, buf, size, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(buf);
	*ret_len = size;
	return 0;
}

int store_size(struct store *s, const char *name, uint64_t *ret, struct err *e)
{
	int r = store_name_check(name, e);

	return r < 0 ? r : s->ops->size(s, name, ret, e);
}

int store_time(struct store *s, const char *name, uint64_t *ret_ns, struct err *e)
{
	int r = store_name_check(name, e);

	if (r < 0)
		return r;
	if (!s->ops->time)
		return err_set(e, -ENOTSUP, "the store does not say when %s was put", name);
	return s->ops->time(s, name, ret_ns, e);
}

/* A list's prefix, or where a draft will be. */
static int store_folder_check(const char *folder, struct err *e)
{
	size_t len = strlen(folder);

	if (len > 0 && (folder[len - 1] != '/' || !store_name_valid_n(folder, len - 1)))
		return err_set(e, -EINVAL, "\"%s\" is no folder of a repository", folder);
	return 0;
}

int store_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx, struct err *e)
{
	int r = store_folder_check(prefix, e);

	return r < 0 ? r : s->ops->list(s, prefix, fn, ctx, e);
}

int store_del(struct store *s, const char *name, struct err *e)
{
	int r = store_name_check(name, e);

	return r < 0 ? r : s->ops->del(s, name, e);
}

void store_free(struct store *s)
{
	if (s)
		s->ops->free(s);
}

/* ---- drafts ------------------------------------------------------------------------------------------------------ */

/* Of a store that takes objects in one piece only. */
struct store_buffered {
	struct store_draft base;
	struct store *store;
	uint8_t *bytes;
	size_t len, room;
};

static int store_buffered_add(struct store_draft *d, const struct iovec *parts, size_t n,
			      struct err *e)
{
	struct store_buffered *b = (struct store_buffered *)d;

	for (size_t i = 0; i < n; i++) {
		const size_t len = parts[i].iov_len;

		if (!len)
			continue;
		if (len > b->room - b->len) {
			const size_t room = MAX(2 * b->room, b->len + len);
			uint8_t *more = realloc(b->bytes, room);

			if (!more)
				return err_oom(e);
			b->bytes = more;
			b->room = room;
		}
		memcpy(b->bytes + b->len, parts[i].iov_base, len);
		b->len += len;
	}
	return 0;
}

static int store_buffered_put(struct store_draft *d, const char *name, struct err *e)
{
	struct store_buffered *b = (struct store_buffered *)d;

	return store_put(b->store, name, b->bytes, b->len, e);
}

static void store_buffered_free(struct store_draft *d)
{
	free(((struct store_buffered *)d)->bytes);
	free(d);
}

static const struct store_draft_ops store_buffered_ops = {
	.add = store_buffered_add,
	.put = store_buffered_put,
	.free = store_buffered_free,
};

int store_draft_new(struct store *s, const char *folder, struct store_draft **ret, struct err *e)
{
	struct store_buffered *b;
	int r = store_folder_check(folder, e);

	if (r < 0)
		return r;
	if (s->ops->draft)
		return s->ops->draft(s, folder, ret, e);
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_oom(e);
	b->base.ops = &store_buffered_ops;
	b->store = s;
	*ret = &b->base;
	return 0;
}

static int store_draft_whole(const struct store_draft *d, struct err *e)
{
	return d->failed < 0 ? err_set_errno(e, d->failed, "an object was not written whole") : 0;
}

int store_draft_add(struct store_draft *d, const struct iovec *parts, size_t n, struct err *e)
{
	int r = store_draft_whole(d, e);

	if (r == 0)
		r = d->failed = d->ops->add(d, parts, n, e);
	return r;
}

int store_draft_put(struct store_draft *d, const char *name, struct err *e)
{
	int r = store_draft_whole(d, e);

	if (r == 0)
		r = store_name_check(name, e);
	if (r < 0)
		return r;
	r = d->ops->put(d, name, e);
	/* nothing is to be tried twice: a second fsync knows nothing of what the first could not write */
	d->failed = r == -EEXIST ? 0 : r;
	return r;
}

void store_draft_free(struct store_draft *d)
{
	if (d)
		d->ops->free(d);
}
