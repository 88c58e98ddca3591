/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/secret.h"

#include <errno.h>
#include <string.h>

#include <sodium.h>

void *secret_alloc(size_t size, struct err *e)
{
	void *p;

	/* it ends at a guard page, so an even size is what makes its beginning fit for any type */
	size = ROUND_UP(MAX(size, (size_t)1), (size_t)16);
	p = sodium_init() < 0 ? NULL : sodium_malloc(size);
	if (!p) {
		err_set(e, -ENOMEM, "cannot get memory for keys");
		return NULL;
	}
	/* sodium_malloc() locks too, but does not say when that failed */
	if (sodium_mlock(p, size) < 0) {
		err_set(e, -ENOMEM,
			"cannot lock memory for keys: the limit is too low (ulimit -l, LimitMEMLOCK=)");
		sodium_free(p);
		return NULL;
	}
	memset(p, 0, size);
	return p;
}

void secret_release(void *p)
{
	sodium_free(p);
}

struct secret *secret_new(size_t len, struct err *e)
{
	struct secret *s = secret_alloc(sizeof(*s) + len, e);

	if (s)
		s->len = len;
	return s;
}

void secret_free(struct secret *s)
{
	secret_release(s);
}
