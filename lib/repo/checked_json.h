/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checked_json - the objects that are JSON and are not named by their hash ("format", key slots), with a hash of their own.
 *
 * The last member is "check", 64 digits, and the object ends in exactly
 *
 *	,\n "check": "<64 lower-case hexadecimal digits>"\n}
 *
 * They are the SHA-256 over the object's name ("format", "keys/…") and all bytes before that end. The end itself can only be
 * these very bytes, so there is none, blanks included, that could change unseen, and none can stand under another's name.
 * This is found by who has no key. It does not say who wrote it: that is what key slots are bound to (key_slot.h).
 *
 * Thread-safe. Hostile text is safe.
 */
#pragma once

#include <stddef.h>

#include <jansson.h>

/* ,\n "check": " and "\n} and the digits, without a zero behind */
#define CHECKED_JSON_END (13 + 64 + 3)

/* The end of the object @name whose @len bytes before it are @text. @ret is a string. Returns @ret. */
char *checked_json_end(const char *name, const char *text, size_t len,
		       char ret[CHECKED_JSON_END + 1]);
/* Text, owned by the caller; NULL: out of memory. @o, borrowed, has members, and no "check". */
char *checked_json_dump(const char *name, const json_t *o);
/* NULL: it is not what was written. */
json_t *checked_json_load(const char *name, const char *text, size_t len);
