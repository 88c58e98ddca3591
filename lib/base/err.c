/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void err_format(struct err *e, int code, const char *format, va_list ap)
{
	e->code = code;
	vsnprintf(e->text, sizeof(e->text), format, ap);
}

int err_set(struct err *e, int code, const char *format, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, format);
	err_format(e, code, format, ap);
	va_end(ap);
	return code;
}

int err_set_errno(struct err *e, int code, const char *format, ...)
{
	va_list ap;
	size_t n;

	if (!e)
		return code;
	va_start(ap, format);
	err_format(e, code, format, ap);
	va_end(ap);
	n = strlen(e->text);
	/* strerrordesc_np() is thread-safe where strerror() is not; NULL for an unknown number */
	const char *words = strerrordesc_np(-code);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", words ? words : "unknown error");
	return code;
}

void err_prefix(struct err *e, const char *format, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;
	size_t n;

	if (!e)
		return;
	memcpy(old, e->text, sizeof(old));
	va_start(ap, format);
	err_format(e, e->code, format, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", old);
}

int err_oom(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}
