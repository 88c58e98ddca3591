/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"
#include "lib/repo/repo_image.h"

static const char list_help[] =
	"Usage: ambroctl list [OPTION]… [NAME]\n"
	"The images of a repository, oldest first; with NAME (HOST, HOST/DISK, or the beginning of an image's\n"
	"name) only those. ADDED is what the capture added to the repository.\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP "      --tag TAG             only images with this tag\n"
	"      --forgotten           also those that were forgotten and are not pruned yet\n"
	"      --json                an array of objects\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 listed; 1 failed, or none matches; 2 wrong command line; 3 an image is damaged (the others are listed);\n"
	"7 not allowed.\n";

enum {
	OPTION_TAG = VERB_OPTION_OWN,
	OPTION_FORGOTTEN,
};

struct list_args {
	const char *name, *tag;
	bool forgotten;
};

static bool list_has_tag(const struct repo_image *i, const char *tag)
{
	for (char **t = i->tags; t && *t; t++) {
		if (!strcmp(*t, tag))
			return true;
	}
	return false;
}

static bool list_wanted(const struct repo_image *i, const struct list_args *a)
{
	char name[REPO_IMAGE_NAME_MAX];

	if (arg_repo.host && strcmp(i->host, arg_repo.host) != 0)
		return false;
	if (a->tag && !list_has_tag(i, a->tag))
		return false;
	return !a->name || strncmp(repo_image_name(i, name), a->name, strlen(a->name)) == 0;
}

static json_t *list_json(const struct repo_image *i)
{
	const struct manifest *m = i->manifest;
	char name[REPO_IMAGE_NAME_MAX], hash[2 * REPO_NAME_HASH + 1];
	char id[2 * sizeof(m->image_id) + 1];
	json_t *tags = json_array(), *o;

	for (char **t = i->tags; tags && t && *t; t++)
		json_array_append_new(tags, json_string(*t));
	o = json_pack("{s:s, s:s, s:s, s:o, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "name",
		      repo_image_name(i, name), "host", i->host, "disk", i->disk, "tags", tags,
		      "time_ns", (json_int_t)i->time_ns, "hash",
		      hex_encode(i->hash, sizeof(i->hash), hash), "image_id",
		      hex_encode(m->image_id, sizeof(m->image_id), id), "disk_size",
		      (json_int_t)m->disk_size, "new_bytes", (json_int_t)i->new_bytes, "new_chunks",
		      (json_int_t)i->new_chunks, "all_chunks", (json_int_t)i->all_chunks,
		      "forgotten", (int)i->forgotten);
	if (o && (json_object_set_new(o, "increment", render_json_string(m->increment)) < 0 ||
		  json_object_set_new(o, "guarantee", render_json_string(m->guarantee)) < 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* Is there no image of what was asked for? That of a new repository there is none is no failure. */
static int list_found(const struct repo_images *l, const struct list_args *a, struct err *e)
{
	size_t n = 0;

	if (!a->name && !a->tag && !arg_repo.host)
		return 0;
	for (size_t i = 0; i < l->count; i++)
		n += list_wanted(l->items[i], a);
	return n ? 0 : err_set(e, -ENOENT, "no image matches");
}

static int list_print_json(const struct repo_images *l, const struct list_args *a)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < l->count; i++) {
		if (list_wanted(l->items[i], a) &&
		    json_array_append_new(array, list_json(l->items[i])) < 0) {
			json_decref(array);
			array = NULL;
		}
	}
	return render_json(array, stdout);
}

static int list_add(struct render_table *t, const struct repo_image *i)
{
	char name[REPO_IMAGE_NAME_MAX], size[RENDER_MAX], added[RENDER_MAX], tags[256] = "";
	size_t n = 0;

	for (char **tag = i->tags; tag && *tag && n < sizeof(tags); tag++) {
		n += (size_t)snprintf(tags + n, sizeof(tags) - n, "%s%s", n ? "," : "", *tag);
	}
	const char *const cells[] = {
		repo_image_name(i, name),
		render_size(i->manifest->disk_size, size),
		render_size(i->new_bytes, added),
		i->manifest->increment ? i->manifest->increment : "",
		i->manifest->guarantee ? i->manifest->guarantee : "",
		tags,
		i->forgotten ? "yes" : "",
	};

	return render_table_add(t, cells);
}

static int list_print(const struct repo_images *l, const struct list_args *a)
{
	static const char *const headings[] = { "IMAGE",     ">DISK", ">ADDED",	   "HOW",
						"GUARANTEE", "TAGS",  "FORGOTTEN", NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	size_t shown = 0;
	int r = render_table_new(headings, &t);

	for (size_t i = 0; i < l->count && r >= 0; i++) {
		if (!list_wanted(l->items[i], a))
			continue;
		shown++;
		r = list_add(t, l->items[i]);
	}
	if (r >= 0 && shown)
		render_table_print(t, stdout);
	return r;
}

static int list_run(const struct list_args *a, struct err *e)
{
	_cleanup_(repo_images_done) struct repo_images l = { 0 };
	_cleanup_(repo_freep) struct repo *r = NULL;
	int n;

	n = repo_arg_require(e);
	if (n >= 0)
		n = repo_arg_open(&arg_repo, REPO_ARG_IMAGES, &r, e);
	if (n >= 0)
		n = repo_images_load(r, a->forgotten, &l, e);
	if (n < 0)
		return n;
	n = arg_json ? list_print_json(&l, a) : list_print(&l, a);
	if (n < 0)
		return err_set_errno(e, n, "cannot print the list");
	if (l.damaged) {
		return err_set(e, -EBADMSG, "%zu image%s damaged and not listed; the first: %.300s",
			       l.damaged, l.damaged == 1 ? " is" : "s are", l.first_damage.text);
	}
	return list_found(&l, a, e);
}

int verb_list(int argc, char **argv)
{
	static const struct option options[] = {
		{ "tag", required_argument, NULL, OPTION_TAG },
		{ "forgotten", no_argument, NULL, OPTION_FORGOTTEN },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct list_args a = { 0 };
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, list_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (c == OPTION_TAG) {
			if (verb_check_name("list", "--tag", optarg) < 0)
				return VERB_USAGE;
			a.tag = optarg;
		} else {
			a.forgotten = true;
		}
	}
	if (argc - optind > 1)
		return verb_usage("list", "one name at most, please");
	a.name = argv[optind];
	return list_run(&a, &e) < 0 ? verb_fail("list", &e) : VERB_OK;
}
