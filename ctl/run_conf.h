/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_conf - what one periodic capture does: /etc/ambro/captures.d/NAME.conf, and the command lines that come of it.
 *
 * A file is lines of `key = value`; lines that begin with # or ; are comments, blanks around key and value do not count,
 * and a value goes to the end of its line. A key with nothing behind it is as good as absent. Keys are those of
 * docs/OPERATING.md; one that is not known, one given twice, or a value that cannot be is refused with the line's number.
 *
 * Blocks on reading one small file. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

#define RUN_CONF_DIR	  "/etc/ambro/captures.d"
#define RUN_CONF_METRICS  "/var/lib/ambro/metrics"
#define RUN_NAME_MAX	  64 /* characters of a NAME */
#define RUN_CONF_FILE_MAX (64u << 10)

enum run_key {
	RUN_SOURCE,
	RUN_REPOSITORY,
	RUN_HOST,
	RUN_DISK,
	RUN_LEVEL,
	RUN_STRATEGY,
	RUN_TAGS,
	RUN_LIMIT_READ,
	RUN_LIMIT_WRITE,
	RUN_FULL_SPEED,
	RUN_HOOKS,
	RUN_HOOK_TIMEOUT,
	RUN_MAX_FREEZE,
	RUN_COW,
	RUN_COW_SIZE,
	RUN_OVERFLOW,
	RUN_THREADS,
	RUN_IGNORE_READ_ERRORS,
	RUN_KEY_FILE,
	RUN_PASSPHRASE_FILE,
	RUN_KEEP_LAST,
	RUN_KEEP_HOURLY,
	RUN_KEEP_DAILY,
	RUN_KEEP_WEEKLY,
	RUN_KEEP_MONTHLY,
	RUN_KEEP_YEARLY,
	RUN_KEEP_WITHIN,
	RUN_KEEP_TAGS,
	RUN_PRUNE,
	RUN_METRICS_FILE,
	RUN_KEYS
};

struct run_conf {
	char *name;
	char *path;		/* of the file */
	char *values[RUN_KEYS]; /* NULL: not given */
};

/* NAME.conf of @dir. -EINVAL: the file or the name is wrong; -ENOENT and others: it cannot be read. @ret is set on success. */
int run_conf_load(const char *dir, const char *name, struct run_conf *ret, struct err *e);
void run_conf_done(struct run_conf *c);
/* May @name be a capture's? Letters, digits and :_.- so that it is a unit's instance as it stands. */
bool run_conf_name_valid(const char *name);

/* Was "yes" said of @key? */
bool run_conf_yes(const struct run_conf *c, enum run_key key);
/* Is there any rule of retention? */
bool run_conf_keeps(const struct run_conf *c);

/* A command line behind the program's name, NULL-terminated; owned. */
struct run_words {
	char **words;
	size_t n;
};

void run_words_done(struct run_words *w);
/* "capture …" of @c. -ENOMEM. */
int run_conf_capture(const struct run_conf *c, struct run_words *ret);
/* "forget …" by the rules of @c, of this disk's images and no others. */
int run_conf_forget(const struct run_conf *c, const char *host, const char *disk,
		    struct run_words *ret);
/* "prune …" of the repository. */
int run_conf_prune(const struct run_conf *c, struct run_words *ret);
