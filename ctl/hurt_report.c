/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For people there is one line for each file and kind of thing in it, whatever the number of its stretches; and images of a
 * chain in which the same is hurt in the same words are not repeated. Programs get all stretches.
 *
 * Names come out of images, and may hold anything.
 */
#include "ctl/hurt_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/array.h"
#include "lib/image/codec.h"

/* What is shown of a path: a line of verb_say() holds the rest of it, too. */
#define PATH_SHOWN  1536
#define PLACE_SHOWN 96
#define TOO_MANY    "there are more files than can be told"

struct hurt_said {
	struct chunk_id digest; /* of the lines, without the image's name */
	char *image;
};

void hurt_report_begin(struct hurt_report *r, const char *verb, bool json)
{
	*r = (struct hurt_report){ .verb = verb };
	if (json) {
		r->files = json_array();
		r->file_systems = json_array();
	}
}

void hurt_report_done(struct hurt_report *r)
{
	for (size_t i = 0; i < r->n_said; i++)
		free(r->said[i].image);
	free(r->said);
	json_decref(r->files);
	json_decref(r->file_systems);
	*r = (struct hurt_report){ 0 };
}

/* ---- for programs -------------------------------------------------------------------------------- */

static json_t *area_json(const struct hurt_area *a)
{
	return json_pack("{s:o, s:I, s:I, s:o}", "image", render_json_string(a->image), "region",
			 (json_int_t)a->region, "partition", (json_int_t)a->partition,
			 "file_system", render_json_string(a->fs_type));
}

static void report_add_file(struct hurt_report *r, const struct hurt_area *a, const struct owner *o)
{
	const uint64_t at = a->start + o->at;
	json_t *j = area_json(a);

	json_object_set_new(j, "path", render_json_string(o->path));
	json_object_set_new(j, "tree", json_integer((json_int_t)o->tree));
	json_object_set_new(j, "inode", json_integer((json_int_t)o->inode));
	json_object_set_new(j, "kind", json_string(owner_kind_name(o->kind)));
	json_object_set_new(j, "offset",
			    o->kind == OWNER_DATA ? json_integer((json_int_t)o->offset)
						  : json_null());
	json_object_set_new(
		j, "held", o->kind == OWNER_DATA ? json_integer((json_int_t)o->held) : json_null());
	json_object_set_new(j, "length", json_integer((json_int_t)o->length));
	json_object_set_new(j, "at", json_integer((json_int_t)at));
	json_array_append_new(r->files, j);
}

/* Why files may be missing, or all are; NULL: they are all there, or it is another's answer. */
static const char *answer_why(const struct hurt_answer *a)
{
	if (!a->owners)
		return a->why;
	if (a->owners->incomplete)
		return a->owners->lost.text;
	return a->owners->more ? TOO_MANY : NULL;
}

static void report_add(struct hurt_report *r, const struct hurt_answer *a)
{
	const struct owners *o = a->owners;
	json_t *j = area_json(a->area);

	json_object_set_new(j, "lost", json_integer((json_int_t)extent_set_total(&a->area->lost)));
	json_object_set_new(j, "same_as", render_json_string(a->same ? a->same->image : NULL));
	json_object_set_new(j, "told", json_boolean(a->area->told));
	json_object_set_new(j, "incomplete", json_boolean(a->area->incomplete));
	json_object_set_new(j, "why", render_json_string(answer_why(a)));
	json_object_set_new(j, "others",
			    o ? json_integer((json_int_t)extent_set_total(&o->others))
			      : json_null());
	json_array_append_new(r->file_systems, j);
	for (size_t i = 0; o && i < o->count; i++)
		report_add_file(r, a->area, &o->items[i]);
}

/* ---- for people ---------------------------------------------------------------------------------- */

/* "partition 1 (ext4)" */
static const char *area_place(const struct hurt_area *a, char buf[PLACE_SHOWN])
{
	int n = a->kind == REGION_PARTITION
			? snprintf(buf, PLACE_SHOWN, "partition %u", a->partition)
		: a->kind == REGION_WHOLE
			? snprintf(buf, PLACE_SHOWN, "the disk")
			: snprintf(buf, PLACE_SHOWN, "from byte %" PRIu64 " on", a->start);

	if (a->fs_type)
		snprintf(buf + n, PLACE_SHOWN - (size_t)n, " (%s)", a->fs_type);
	return buf;
}

/* Files in the order of their names, and of one its parts in theirs. Those without a name come last. */
static int owner_compare(const void *x, const void *y)
{
	const struct owner *a = *(const struct owner *const *)x;
	const struct owner *b = *(const struct owner *const *)y;
	int r = !a->path - !b->path;

	if (!r && a->path)
		r = strcmp(a->path, b->path);
	if (!r)
		r = (a->tree > b->tree) - (a->tree < b->tree);
	if (!r)
		r = (a->inode > b->inode) - (a->inode < b->inode);
	if (!r)
		r = (a->kind > b->kind) - (a->kind < b->kind);
	return r ? r : (a->offset > b->offset) - (a->offset < b->offset);
}

static bool owner_same_line(const struct owner *a, const struct owner *b)
{
	return a->tree == b->tree && a->inode == b->inode && a->kind == b->kind;
}

/* "/var/lib/db/main.db", "inode 17 (no name was found)" */
static const char *owner_name(const struct owner *o, char buf[PATH_SHOWN])
{
	char tree[48] = "", safe[PATH_SHOWN - sizeof("…")];

	if (o->path) {
		/* a line feed in it would make two lines; "…" tells that it goes on */
		render_safe(o->path, safe, sizeof(safe));
		snprintf(buf, PATH_SHOWN, "%s%s", safe, strlen(o->path) < sizeof(safe) ? "" : "…");
		return buf;
	}
	if (o->tree)
		snprintf(tree, sizeof(tree), " of subvolume %" PRIu64, o->tree);
	snprintf(buf, PATH_SHOWN, "inode %" PRIu64 "%s (no name was found)", o->inode, tree);
	return buf;
}

/* What of one file's data, @n pieces in order of their offsets. */
static void print_data(FILE *out, const struct owner *const *o, size_t n)
{
	char path[PATH_SHOWN], size[RENDER_MAX];
	uint64_t stretches = 0, bytes = 0, end = 0;

	for (size_t i = 0; i < n; i++) {
		const uint64_t from = MAX(o[i]->offset, end);
		const uint64_t to = o[i]->offset + o[i]->held;

		if (!i || o[i]->offset > end)
			stretches++;
		/* the same of a file may be lost in two places where one of them is not read any more: count it once */
		bytes += to > from ? to - from : 0;
		end = MAX(end, to);
	}
	fprintf(out, "%s lacks %s ", owner_name(o[0], path),
		render_count(bytes, "byte", "bytes", size));
	if (stretches > 1)
		fprintf(out, "in %" PRIu64 " stretches, the first ", stretches);
	fprintf(out, "at byte %" PRIu64 "\n", o[0]->offset);
}

static void print_kind(FILE *out, const struct owner *o)
{
	static const char *const words[] = {
		[OWNER_DIRECTORY] = "names in the directory",
		[OWNER_LINK] = "where the symbolic link leads",
		[OWNER_ATTRIBUTES] = "extended attributes or access lists",
		[OWNER_MAP] = "where it lies on the disk, so the rest of it may be lost, too",
	};
	char path[PATH_SHOWN];

	fprintf(out, "%s: %s\n", owner_name(o, path), words[o->kind]);
}

/* A line for each file into *@ret, allocated. 0 or -ENOMEM. */
static int print_files(const struct owners *owners, char **ret, size_t *ret_len)
{
	_cleanup_free_ const struct owner **o =
		calloc(owners->count + 1, sizeof(const struct owner *));
	_cleanup_file_ FILE *out = open_memstream(ret, ret_len);
	size_t n;

	if (!o || !out)
		return -ENOMEM;
	for (size_t i = 0; i < owners->count; i++)
		o[i] = &owners->items[i];
	qsort(o, owners->count, sizeof(const struct owner *), owner_compare);
	for (size_t i = 0; i < owners->count; i += n) {
		n = 1;
		while (i + n < owners->count && owner_same_line(o[i], o[i + n]))
			n++;
		if (o[i]->kind == OWNER_DATA) {
			print_data(out, o + i, n);
		} else {
			print_kind(out, o[i]);
		}
	}
	return fclose(TAKE_PTR(out)) ? -ENOMEM : 0;
}

/* Say one of the lines that a limit is for. */
static void report_say(const struct hurt_report *r, uint64_t *lines, const struct hurt_area *a,
		       const char *text)
{
	char place[PLACE_SHOWN];

	if ((*lines)++ < HURT_REPORT_SHOWN)
		verb_say(r->verb, "%s: %s: %s", a->image, area_place(a, place), text);
}

/* Of which image of that disk is this said already? NULL: of none, but from now on of @a's. */
static const char *report_said(struct hurt_report *r, const struct hurt_area *a, const char *text,
			       size_t len)
{
	const size_t disk = (size_t)(strrchr(a->image, '/') - a->image);
	char place[PLACE_SHOWN];
	struct chunk_id parts[2];
	struct hurt_said s;

	area_place(a, place);
	chunk_id_of(place, strlen(place), &parts[0]);
	chunk_id_of(text, len, &parts[1]);
	chunk_id_of(parts, sizeof(parts), &s.digest);
	for (size_t i = 0; i < r->n_said; i++) {
		if (chunk_id_equal(&r->said[i].digest, &s.digest) &&
		    !strncmp(r->said[i].image, a->image, disk + 1))
			return r->said[i].image;
	}
	if (ARRAY_ROOM(r->said, r->n_said, r->said_allocated, 16) < 0)
		return NULL;
	s.image = strdup(a->image);
	if (s.image)
		r->said[r->n_said++] = s;
	return NULL;
}

static void report_same(struct hurt_report *r, const struct hurt_area *a, const char *image)
{
	char text[512];

	snprintf(text, sizeof(text), "the same as in %s", image);
	report_say(r, &r->system_lines, a, text);
}

/* What the owners do not say. */
static void report_say_rest(struct hurt_report *r, const struct hurt_answer *a)
{
	const struct owners *o = a->owners;
	char text[ERR_TEXT_MAX + 64], size[RENDER_MAX];

	if (o->others.count) {
		const uint64_t n = extent_set_total(&o->others);

		snprintf(text, sizeof(text), "%s %s free or the file system's own tables",
			 render_count(n, "byte", "bytes", size), n == 1 ? "is" : "are");
		report_say(r, &r->system_lines, a->area, text);
	}
	if (o->incomplete) {
		snprintf(text, sizeof(text), "not all could be found out: %s", o->lost.text);
		report_say(r, &r->system_lines, a->area, text);
	}
	if (o->more)
		report_say(r, &r->system_lines, a->area, TOO_MANY);
}

static void report_say_owners(struct hurt_report *r, const struct hurt_answer *a)
{
	_cleanup_free_ char *text = NULL;
	const char *same;
	size_t len = 0;

	if (print_files(a->owners, &text, &len) < 0) {
		report_say(r, &r->system_lines, a->area, "its files cannot be told: out of memory");
		return;
	}
	same = a->owners->count ? report_said(r, a->area, text, len) : NULL;
	if (same) {
		report_same(r, a->area, same);
	} else {
		char *rest = text;

		for (char *line; (line = strsep(&rest, "\n")) && *line;)
			report_say(r, &r->file_lines, a->area, line);
	}
	report_say_rest(r, a);
}

void hurt_report_answer(struct hurt_report *r, const struct hurt_answer *a)
{
	char text[ERR_TEXT_MAX + 64];

	if (r->files) {
		report_add(r, a);
		return;
	}
	if (a->same) {
		report_same(r, a->area, a->same->image);
	} else if (a->owners) {
		report_say_owners(r, a);
	} else {
		snprintf(text, sizeof(text), "its files cannot be told: %s", a->why);
		report_say(r, &r->system_lines, a->area, text);
	}
}

void hurt_report_end(const struct hurt_report *r)
{
	const uint64_t more = r->file_lines - MIN(r->file_lines, (uint64_t)HURT_REPORT_SHOWN) +
			      r->system_lines - MIN(r->system_lines, (uint64_t)HURT_REPORT_SHOWN);

	if (more)
		verb_say(r->verb, "… and %" PRIu64 " more about files; --json lists all", more);
}
