/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/run_conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"

#define RUN_LINE_MAX 4096

/* What a value has to look like; all else is for the verbs to say. */
enum run_kind {
	RUN_TEXT,
	RUN_PATH,  /* absolute: a unit has no directory that anybody would guess */
	RUN_YESNO, /* an option without argument */
	RUN_COUNT,
	RUN_KEEP, /* a number or "all" */
	RUN_LIST, /* one option for each of its words */
};

/* Whose option it is. */
enum run_verb {
	RUN_OURS,
	RUN_ALL, /* every verb's that works on the repository */
	RUN_CAPTURE,
	RUN_FORGET,
};

static const struct run_field {
	const char *key, *option;
	enum run_kind kind;
	enum run_verb verb;
} run_fields[RUN_KEYS] = {
	[RUN_SOURCE] = { "source", NULL, RUN_PATH, RUN_OURS },
	[RUN_REPOSITORY] = { "repository", "repo", RUN_TEXT, RUN_ALL },
	[RUN_HOST] = { "host", "host", RUN_TEXT, RUN_CAPTURE },
	[RUN_DISK] = { "disk", "disk", RUN_TEXT, RUN_CAPTURE },
	[RUN_LEVEL] = { "level", "level", RUN_TEXT, RUN_CAPTURE },
	[RUN_STRATEGY] = { "strategy", "strategy", RUN_TEXT, RUN_CAPTURE },
	[RUN_TAGS] = { "tags", "tag", RUN_LIST, RUN_CAPTURE },
	[RUN_LIMIT_READ] = { "limit_read", "limit-read", RUN_TEXT, RUN_CAPTURE },
	[RUN_LIMIT_WRITE] = { "limit_write", "limit-write", RUN_TEXT, RUN_CAPTURE },
	[RUN_FULL_SPEED] = { "full_speed", "full-speed", RUN_YESNO, RUN_CAPTURE },
	[RUN_HOOKS] = { "hooks", "hooks", RUN_TEXT, RUN_CAPTURE },
	[RUN_HOOK_TIMEOUT] = { "hook_timeout", "hook-timeout", RUN_COUNT, RUN_CAPTURE },
	[RUN_MAX_FREEZE] = { "max_freeze_ms", "max-freeze", RUN_COUNT, RUN_CAPTURE },
	[RUN_COW] = { "cow", "cow", RUN_TEXT, RUN_CAPTURE },
	[RUN_COW_SIZE] = { "cow_size", "cow-size", RUN_TEXT, RUN_CAPTURE },
	[RUN_OVERFLOW] = { "on_overflow", "on-overflow", RUN_TEXT, RUN_CAPTURE },
	[RUN_THREADS] = { "threads", "threads", RUN_COUNT, RUN_CAPTURE },
	[RUN_IGNORE_READ_ERRORS] = { "ignore_read_errors", "ignore-read-errors", RUN_YESNO,
				     RUN_CAPTURE },
	[RUN_KEY_FILE] = { "key_file", "key-file", RUN_PATH, RUN_ALL },
	[RUN_PASSPHRASE_FILE] = { "passphrase_file", "passphrase-file", RUN_PATH, RUN_ALL },
	[RUN_KEEP_LAST] = { "keep_last", "keep-last", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_HOURLY] = { "keep_hourly", "keep-hourly", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_DAILY] = { "keep_daily", "keep-daily", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_WEEKLY] = { "keep_weekly", "keep-weekly", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_MONTHLY] = { "keep_monthly", "keep-monthly", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_YEARLY] = { "keep_yearly", "keep-yearly", RUN_KEEP, RUN_FORGET },
	[RUN_KEEP_WITHIN] = { "keep_within", "keep-within", RUN_TEXT, RUN_FORGET },
	[RUN_KEEP_TAGS] = { "keep_tags", "keep-tag", RUN_LIST, RUN_FORGET },
	[RUN_PRUNE] = { "prune", NULL, RUN_YESNO, RUN_OURS },
	[RUN_METRICS_FILE] = { "metrics", NULL, RUN_PATH, RUN_OURS },
};

/* ---- reading ------------------------------------------------------------------------------------ */

bool run_conf_name_valid(const char *name)
{
	static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				  "0123456789:_.-";
	size_t n = strlen(name);

	return n > 0 && n <= RUN_NAME_MAX && *name != '.' && *name != '-' && strspn(name, fit) == n;
}

/* @text without the blanks around it; in place. */
static char *run_trim(char *text)
{
	size_t n;

	while (isspace((unsigned char)*text))
		text++;
	n = strlen(text);
	while (n > 0 && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
	return text;
}

static int run_check_value(const struct run_field *f, const char *value, struct err *e)
{
	switch (f->kind) {
	case RUN_PATH:
		if (*value != '/')
			return err_set(e, -EINVAL, "%s: %s is not an absolute path", f->key, value);
		return 0;
	case RUN_YESNO:
		if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
			return err_set(e, -EINVAL, "%s: %s is not yes or no", f->key, value);
		return 0;
	case RUN_KEEP:
		if (!strcmp(value, "all"))
			return 0;
		/* fall through */
	case RUN_COUNT:
		if (strspn(value, "0123456789") != strlen(value) || strlen(value) > 9)
			return err_set(e, -EINVAL, "%s: %s is not a number", f->key, value);
		return 0;
	default:
		return 0;
	}
}

static int run_set(struct run_conf *c, const char *key, const char *value, struct err *e)
{
	size_t i = 0;

	while (i < RUN_KEYS && strcmp(run_fields[i].key, key) != 0)
		i++;
	if (i == RUN_KEYS)
		return err_set(e, -EINVAL, "%.100s is not a key", key);
	if (c->values[i])
		return err_set(e, -EINVAL, "%s is given twice", key);
	if (!*value)
		return 0;
	c->values[i] = strdup(value);
	return c->values[i] ? run_check_value(&run_fields[i], value, e) : err_oom(e);
}

static int run_parse_line(struct run_conf *c, char *line, struct err *e)
{
	char *text = run_trim(line), *equals;

	if (!*text || *text == '#' || *text == ';')
		return 0;
	equals = strchr(text, '=');
	if (!equals)
		return err_set(e, -EINVAL, "not key = value");
	*equals = '\0';
	return run_set(c, run_trim(text), run_trim(equals + 1), e);
}

static int run_parse(struct run_conf *c, FILE *f, struct err *e)
{
	char line[RUN_LINE_MAX];
	int r;

	for (unsigned int n = 1; fgets(line, sizeof(line), f); n++) {
		r = strlen(line) == sizeof(line) - 1 ? err_set(e, -EINVAL, "the line is too long")
						     : run_parse_line(c, line, e);
		if (r < 0)
			return err_prefix(e, "%s:%u", c->path, n), r;
	}
	if (ferror(f))
		return err_set_errno(e, -EIO, "cannot read %s", c->path);
	if (!c->values[RUN_REPOSITORY])
		return err_set(e, -EINVAL, "%s: no repository is given", c->path);
	if (*c->values[RUN_REPOSITORY] != '/' && !strstr(c->values[RUN_REPOSITORY], "://")) {
		return err_set(e, -EINVAL, "%s: repository: %s is not an absolute path", c->path,
			       c->values[RUN_REPOSITORY]);
	}
	return 0;
}

int run_conf_load(const char *dir, const char *name, struct run_conf *ret, struct err *e)
{
	struct run_conf c = { 0 };
	_cleanup_file_ FILE *f = NULL;
	int r;

	*ret = c;
	if (!run_conf_name_valid(name)) {
		return err_set(e, -EINVAL,
			       "%.100s cannot be a capture's name: letters, digits and :_.-, up to "
			       "%d of them, the first a letter or a digit",
			       name, RUN_NAME_MAX);
	}
	c.name = strdup(name);
	if (!c.name || asprintf(&c.path, "%s/%s.conf", dir, name) < 0) {
		free(c.name);
		return err_oom(e);
	}
	f = fopen(c.path, "re");
	r = f ? run_parse(&c, f, e) : err_set_errno(e, -errno, "cannot open %s", c.path);
	if (r < 0) {
		run_conf_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void run_conf_done(struct run_conf *c)
{
	free(c->name);
	free(c->path);
	for (size_t i = 0; i < RUN_KEYS; i++)
		free(c->values[i]);
	*c = (struct run_conf){ 0 };
}

bool run_conf_yes(const struct run_conf *c, enum run_key key)
{
	return c->values[key] && !strcmp(c->values[key], "yes");
}

bool run_conf_keeps(const struct run_conf *c)
{
	for (size_t i = 0; i < RUN_KEYS; i++) {
		if (run_fields[i].verb == RUN_FORGET && c->values[i])
			return true;
	}
	return false;
}

/* ---- command lines ------------------------------------------------------------------------------ */

void run_words_done(struct run_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->words[i]);
	free(w->words);
	*w = (struct run_words){ 0 };
}

static int __attribute__((format(printf, 2, 3)))
run_words_add(struct run_words *w, const char *format, ...)
{
	char **more = realloc(w->words, (w->n + 2) * sizeof(*more));
	va_list ap;
	int r;

	if (!more)
		return -ENOMEM;
	w->words = more;
	va_start(ap, format);
	r = vasprintf(&w->words[w->n], format, ap);
	va_end(ap);
	if (r < 0) {
		w->words[w->n] = NULL;
		return -ENOMEM;
	}
	w->words[++w->n] = NULL;
	return 0;
}

/* One option for each word of @value. */
static int run_words_add_list(struct run_words *w, const char *option, const char *value)
{
	static const char between[] = " \t,";
	int r = 0;

	while (r == 0) {
		size_t n;

		value += strspn(value, between);
		n = strcspn(value, between);
		if (!n)
			break;
		r = run_words_add(w, "--%s=%.*s", option, (int)n, value);
		value += n;
	}
	return r;
}

/* The options of @c that are @verb's. */
static int run_words_add_options(struct run_words *w, const struct run_conf *c, enum run_verb verb)
{
	int r = 0;

	for (size_t i = 0; i < RUN_KEYS && r == 0; i++) {
		const struct run_field *f = &run_fields[i];

		if (f->verb != verb || !c->values[i])
			continue;
		if (f->kind == RUN_LIST) {
			r = run_words_add_list(w, f->option, c->values[i]);
		} else if (f->kind != RUN_YESNO) {
			r = run_words_add(w, "--%s=%s", f->option, c->values[i]);
		} else if (run_conf_yes(c, (enum run_key)i)) {
			r = run_words_add(w, "--%s", f->option);
		}
	}
	return r;
}

static int run_words_begin(struct run_words *w, const struct run_conf *c, const char *verb)
{
	int r;

	*w = (struct run_words){ 0 };
	r = run_words_add(w, "%s", verb);
	if (r == 0)
		r = run_words_add(w, "--json");
	return r < 0 ? r : run_words_add_options(w, c, RUN_ALL);
}

static int run_words_end(struct run_words *w, int r)
{
	if (r < 0)
		run_words_done(w);
	return r;
}

int run_conf_capture(const struct run_conf *c, struct run_words *ret)
{
	int r;

	r = run_words_begin(ret, c, "capture");
	if (r == 0)
		r = run_words_add_options(ret, c, RUN_CAPTURE);
	if (r == 0 && c->values[RUN_SOURCE]) {
		r = run_words_add(ret, "--");
		if (r == 0)
			r = run_words_add(ret, "%s", c->values[RUN_SOURCE]);
	}
	return run_words_end(ret, r);
}

int run_conf_forget(const struct run_conf *c, const char *host, const char *disk,
		    struct run_words *ret)
{
	int r;

	r = run_words_begin(ret, c, "forget");
	if (r == 0)
		r = run_words_add(ret, "--yes");
	if (r == 0)
		r = run_words_add(ret, "--host=%s", host);
	if (r == 0)
		r = run_words_add(ret, "--disk=%s", disk);
	if (r == 0)
		r = run_words_add_options(ret, c, RUN_FORGET);
	return run_words_end(ret, r);
}

int run_conf_prune(const struct run_conf *c, struct run_words *ret)
{
	return run_words_end(ret, run_words_begin(ret, c, "prune"));
}
