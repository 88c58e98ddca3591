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

int store_list(struct store *s, const char *prefix, store_list_fn fn, void *ctx, struct err *e)
{
	size_t len = strlen(prefix);

	if (len > 0 && (prefix[len - 1] != '/' || !store_name_valid_n(prefix, len - 1)))
		return err_set(e, -EINVAL, "\"%s\" is no folder of a repository", prefix);
	return s->ops->list(s, prefix, fn, ctx, e);
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
