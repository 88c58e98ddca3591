/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_telling.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctl/repo_arg.h"
#include "ctl/verb.h"

void repo_telling_begin(struct repo_telling *t, const char *verb, const char *phase, bool files)
{
	*t = (struct repo_telling){ .verb = verb, .phase = phase, .damages = json_array() };
	render_bar_begin(&t->bar, arg_json ? RENDER_BAR_NONE : RENDER_BAR_AUTO);
	if (!files)
		return;
	hurt_report_begin(&t->report, verb, arg_json);
	if (hurt_files_new(&t->files) < 0)
		verb_say(verb, "warning: files will not be named: out of memory");
}

void repo_telling_done(struct repo_telling *t)
{
	render_bar_end(&t->bar);
	json_decref(t->damages);
	hurt_files_free(t->files);
	hurt_report_done(&t->report);
}

void repo_telling_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct repo_telling *t = ctx;
	const struct render_progress p = { .phase = t->phase, .done = done, .total = total };

	render_bar_update(&t->bar, &p);
}

/* ---- damage -------------------------------------------------------------------------------------- */

static json_t *damage_json(const struct repo_damage *d)
{
	json_t *o = json_pack("{s:o}", "what", render_json_string(d->what));

	if (o && d->object)
		json_object_set_new(o, "object", render_json_string(d->object));
	if (o && d->image) {
		json_object_set_new(o, "image", render_json_string(d->image));
		json_object_set_new(o, "region", json_integer(d->region));
		json_object_set_new(o, "partition", json_integer(d->partition));
		json_object_set_new(o, "offset", json_integer((json_int_t)d->offset));
		json_object_set_new(o, "length", json_integer((json_int_t)d->length));
	}
	return o;
}

void repo_telling_damage(void *ctx, const struct repo_damage *d)
{
	struct repo_telling *t = ctx;
	char partition[32] = "", size[RENDER_MAX];

	if (t->files)
		hurt_files_note(t->files, d);
	if (arg_json) {
		json_array_append_new(t->damages, damage_json(d));
		return;
	}
	if (t->said++ >= REPO_TELLING_SHOWN)
		return;
	if (!d->image) {
		verb_say(t->verb, "%s %s", d->object, d->what);
		return;
	}
	if (d->partition)
		snprintf(partition, sizeof(partition), ", in partition %u", d->partition);
	verb_say(t->verb, "%s cannot be restored: %s at byte %" PRIu64 " of the disk%s: %s",
		 d->image, render_count(d->length, "byte", "bytes", size), d->offset, partition,
		 d->what);
}

void repo_telling_repaired(void *ctx, const char *object, const char *what)
{
	struct repo_telling *t = ctx;

	if (arg_json) {
		json_array_append_new(t->damages, json_pack("{s:s, s:o}", "object", object, "what",
							    render_json_string(what)));
	} else if (t->said++ < REPO_TELLING_SHOWN) {
		verb_say(t->verb, "%s %s", object, what);
	}
}

/* ---- files --------------------------------------------------------------------------------------- */

static void telling_answer(void *ctx, const struct hurt_answer *a)
{
	struct repo_telling *t = ctx;

	render_bar_end(&t->bar);
	hurt_report_answer(&t->report, a);
}

static void telling_files_progress(void *ctx, const struct hurt_area *a, uint64_t read)
{
	struct repo_telling *t = ctx;
	const struct render_progress p = { .phase = "files", .done = read, .extra = a->image };

	render_bar_update(&t->bar, &p);
}

int repo_telling_files(struct repo_telling *t, struct repo *r, struct cancel *c)
{
	const struct hurt_files_settings s = {
		.repo = r,
		.cancel = c,
		.answer = telling_answer,
		.progress = telling_files_progress,
		.ctx = t,
	};
	struct err e = { 0 };
	int n;

	render_bar_end(&t->bar);
	if (t->said > REPO_TELLING_SHOWN) {
		verb_say(t->verb, "… and %" PRIu64 " more; --json lists all",
			 t->said - REPO_TELLING_SHOWN);
	}
	if (!t->files)
		return 0;
	n = hurt_files_find(t->files, &s, &e);
	render_bar_end(&t->bar);
	hurt_report_end(&t->report);
	if (n < 0)
		verb_say(t->verb, "not all files that are hurt are named: %s", e.text);
	return n;
}

void repo_telling_add_files(const struct repo_telling *t, json_t *result)
{
	if (!result || !t->report.files)
		return;
	json_object_set(result, "files", t->report.files);
	json_object_set(result, "file_systems", t->report.file_systems);
}

/* ---- the repository ------------------------------------------------------------------------------ */

int repo_telling_open(bool no_key, struct repo **ret, struct err *e)
{
	_cleanup_(repo_freep) struct repo *r = NULL;
	int n = repo_arg_require(e);

	if (n >= 0)
		n = repo_arg_open(&arg_repo, REPO_ARG_FORMAT, &r, e);
	if (n < 0)
		return n;
	if (!r->format.encrypted && key_source_given(&arg_repo.keys))
		return err_set(e, -EINVAL, "the repository is not encrypted, but a key was given");
	if (r->format.encrypted && !no_key)
		n = key_source_unlock(&arg_repo.keys, r, e);
	if (n >= 0)
		*ret = TAKE_PTR(r);
	return n;
}
