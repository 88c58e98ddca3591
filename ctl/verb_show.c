/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/image_file.h"
#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"

static const char show_help[] =
	"Usage: ambroctl show [OPTION]… IMAGE\n"
	"IMAGE is a file, or with --repo an image of a repository: HOST/DISK/TIME or the beginning of it,\n"
	"or latest.\n"
	"What an image holds: whose disk, of when, with which guarantee, and how it can be read.\n"
	"The manifest and the index are checked, the chunks are not (see 'ambroctl verify').\n"
	"\n" VERB_REPO_HELP VERB_HOST_HELP
	"      --json  the manifest, with the file's own facts as \"file\"\n"
	"  -h, --help  this text\n"
	"\n"
	"Exit codes: 0 shown; 1 failed; 2 wrong command line; 3 the image is damaged, or is none.\n";

#define SHOW_TEXT_MAX 512

/* Names of the image's own are not ours to trust: every string goes through render_safe(). */
static const char *show_text(const char *text, const char *none, char buf[static SHOW_TEXT_MAX])
{
	return text && *text ? render_safe(text, buf, SHOW_TEXT_MAX) : none;
}

static void show_row(const char *name, const char *text)
{
	if (text && *text)
		printf("%-11s %s\n", name, text);
}

static const char *show_guarantee(const char *g)
{
	if (!g)
		return "unknown";
	if (strcmp(g, "filesystem-consistent") == 0) {
		return "filesystem-consistent: every file system stood still, so all of them are "
		       "whole and of one instant";
	}
	if (strcmp(g, "crash-consistent") == 0) {
		return "crash-consistent: one instant, as if the power had failed then; journals "
		       "are replayed at the first mount";
	}
	if (strcmp(g, "offline") == 0)
		return "offline: nothing was in use, the bytes are what they were";
	return NULL;
}

static const char *show_strategy(const char *s)
{
	if (!s)
		return "unknown";
	if (strcmp(s, "precopy") == 0) {
		return "precopy: read while in use, what was written meanwhile read again, the "
		       "last of it while frozen";
	}
	if (strcmp(s, "offline") == 0)
		return "offline: opened exclusively and read once";
	if (strcmp(s, "still") == 0)
		return "still: mounted read-only, read once, and nobody wrote meanwhile";
	return NULL;
}

static void show_origin(const struct manifest *m)
{
	char a[SHOW_TEXT_MAX], b[SHOW_TEXT_MAX], line[4 * SHOW_TEXT_MAX], time[64];

	snprintf(line, sizeof(line), "%s%s%s%s", show_text(m->hostname, "unknown", a),
		 m->os ? " (" : "", show_text(m->os, "", b), m->os ? ")" : "");
	show_row("Host", line);
	show_row("Kernel", show_text(m->kernel, NULL, a));
	show_row("Machine id", show_text(m->machine_id, NULL, a));
	show_row("Begun", image_file_time(m->created_ns, time, sizeof(time)));
	show_row("Shows", image_file_time(m->instant_ns, time, sizeof(time)));
	show_row("Tool", show_text(m->tool, NULL, a));
	show_row("Strategy", show_strategy(m->strategy) ? show_strategy(m->strategy)
							: show_text(m->strategy, NULL, a));
	show_row("Guarantee", show_guarantee(m->guarantee) ? show_guarantee(m->guarantee)
							   : show_text(m->guarantee, NULL, a));
}

static void show_disk(const struct manifest *m)
{
	char a[SHOW_TEXT_MAX], line[3 * SHOW_TEXT_MAX], size[RENDER_MAX];
	const char *ids[][2] = { { ", ", m->model },
				 { ", serial ", m->serial },
				 { ", ", m->wwid } };
	size_t n;

	n = (size_t)snprintf(line, sizeof(line), "%s, %s (%" PRIu64 " bytes)",
			     show_text(m->path, "unknown", a), render_size(m->disk_size, size),
			     m->disk_size);
	for (size_t i = 0; i < ARRAY_SIZE(ids) && n < sizeof(line); i++) {
		if (ids[i][1] && *ids[i][1]) {
			n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%s", ids[i][0],
					      show_text(ids[i][1], "", a));
		}
	}
	show_row("Disk", line);
	snprintf(line, sizeof(line), "%s%s%s, sectors of %" PRIu32 " bytes (physical %" PRIu32 ")",
		 m->table && strcmp(m->table, "none") != 0 ? show_text(m->table, "", a)
							   : "no partition table",
		 m->table_id ? " " : "", m->table_id ? m->table_id : "", m->logical_sector,
		 m->physical_sector);
	show_row("Table", render_safe(line, a, sizeof(a)));
}

static const char *show_content(const struct manifest_region *g)
{
	switch (g->content) {
	case CONTENT_ALL:
		return "every byte";
	case CONTENT_USED:
		return "what is in use";
	case CONTENT_HEADER:
		return "its header only";
	case CONTENT_EDGES:
		return "its first and last MiB";
	}
	return "?";
}

static int show_region(struct render_table *t, size_t number, const struct manifest_region *g)
{
	char index[24], kind[64], start[24], size[RENDER_MAX], used[RENDER_MAX];
	char mounts[SHOW_TEXT_MAX] = "", content[SHOW_TEXT_MAX];
	size_t n = 0;

	snprintf(index, sizeof(index), "%zu", number);
	if (g->kind == REGION_PARTITION) {
		snprintf(kind, sizeof(kind), "partition %u", g->partition);
	} else {
		snprintf(kind, sizeof(kind), "%s", region_kind_name(g->kind));
	}
	snprintf(start, sizeof(start), "%" PRIu64, g->start);
	for (char **m = g->mounts; m && *m && n < sizeof(mounts); m++)
		n += (size_t)snprintf(mounts + n, sizeof(mounts) - n, "%s%s", n ? " " : "", *m);
	snprintf(content, sizeof(content), "%s%s%s%s", show_content(g), g->map ? " (" : "",
		 g->map ? g->map : "", g->map ? ")" : "");
	const char *const cells[] = {
		index,	    kind,
		start,	    render_size(g->length, size),
		g->fs_type, g->fs_label ? g->fs_label : g->name,
		mounts,	    render_size(g->used, used),
		content,
	};

	return render_table_add(t, cells);
}

static int show_regions(const struct manifest *m)
{
	static const char *const headings[] = { "#",	 "REGION",  ">START", ">SIZE", "FS",
						"LABEL", "MOUNTED", ">READ",  "OF IT", NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	int r = render_table_new(headings, &t);

	for (size_t i = 0; i < m->n_regions && r >= 0; i++)
		r = show_region(t, i, &m->regions[i]);
	if (r < 0)
		return r;
	putchar('\n');
	render_table_print(t, stdout);
	putchar('\n');
	return 0;
}

static void show_numbers(const struct image_file *f)
{
	const struct manifest *m = f->manifest;
	uint64_t size = image_reader_size(f->reader), plain = m->data_chunks * m->chunk_size;
	char a[RENDER_MAX], b[RENDER_MAX], ratio[32], line[SHOW_TEXT_MAX];

	snprintf(line, sizeof(line), "%s (%" PRIu64 " bytes), %s of the disk's data, ratio %s",
		 render_size(size, a), size, render_size(MIN(plain, m->disk_size), b),
		 image_file_ratio(MIN(plain, m->disk_size), size, ratio, sizeof(ratio)));
	if (!f->image)
		show_row("File", line);
	snprintf(line, sizeof(line), "%" PRIu64 " with data of %s each, %" PRIu64 " sent again",
		 m->data_chunks, render_size(m->chunk_size, a), m->resent_chunks);
	show_row("Chunks", line);
	snprintf(line, sizeof(line),
		 "%s read in %s, %" PRIu64 " pass%s, frozen for %" PRIu64 ".%03" PRIu64 " ms",
		 render_size(m->read_bytes, a), render_seconds((m->duration_ms + 500) / 1000, b),
		 m->passes, m->passes == 1 ? "" : "es", m->freeze_us / 1000, m->freeze_us % 1000);
	show_row("Capture", line);
	if (!m->bad.count) {
		show_row("Bad sectors", "none");
		return;
	}
	snprintf(line, sizeof(line),
		 "%" PRIu64 " bytes in %zu places could not be read (zeros here)",
		 extent_set_total(&m->bad), m->bad.count);
	show_row("Bad sectors", line);
	for (size_t i = 0; i < m->bad.count && i < 10; i++) {
		printf("%-11s   %" PRIu64 " bytes at byte %" PRIu64 "\n", "",
		       m->bad.items[i].length, m->bad.items[i].start);
	}
}

static void show_how_to_read(const struct image_file *f)
{
	uint64_t require = image_reader_require(f->reader);

	if (f->image) {
		show_row("To read it",
			 "ambroctl restore; ambroctl export makes a file of it that zstd reads");
	} else if (!require) {
		show_row("To read it", "zstd -dc gives the disk, without this software");
	} else if (require & AMBRO_REQUIRE_RESENT) {
		show_row("To read it", "needs ambroctl: the disk was written to while it was read, "
				       "so chunks are not in disk order and some came again");
	} else {
		show_row("To read it", "needs ambroctl: so much of the disk is empty that the "
				       "emptiness was left out");
	}
}

/* What only an image of a repository has. */
static void show_in_repo(const struct repo_image *i)
{
	char line[SHOW_TEXT_MAX], size[RENDER_MAX], hex[2 * REPO_NAME_HASH + 1];
	const struct manifest *m = i->manifest;
	size_t n = 0;

	line[0] = '\0';
	for (char **tag = i->tags; tag && *tag && n < sizeof(line); tag++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%s", n ? ", " : "", *tag);
	show_row("Tags", line);
	show_row("Hash", hex_encode(i->hash, sizeof(i->hash), hex));
	snprintf(line, sizeof(line), "%s%s%s, %s added to the repository",
		 m->increment ? m->increment : "full", m->increment_reason ? ": " : "",
		 m->increment_reason ? m->increment_reason : "", render_size(i->new_bytes, size));
	show_row("Increment", line);
}

static int show_print(const struct image_file *f)
{
	char id[2 * sizeof(f->manifest->image_id) + 1], path[SHOW_TEXT_MAX];
	char name[REPO_IMAGE_NAME_MAX];
	int r;

	show_row("Image", render_safe(image_file_name(f, name), path, sizeof(path)));
	if (f->image)
		show_in_repo(f->image);
	show_row("Id", hex_encode(f->manifest->image_id, sizeof(f->manifest->image_id), id));
	show_origin(f->manifest);
	show_disk(f->manifest);
	r = show_regions(f->manifest);
	if (r < 0)
		return r;
	show_numbers(f);
	show_how_to_read(f);
	return 0;
}

static int show_add_repo(const struct image_file *f, json_t *o)
{
	json_t *tags = json_array();

	for (char **tag = f->image->tags; tags && tag && *tag; tag++)
		json_array_append_new(tags, json_string(*tag));
	if (image_file_to_json(f, o) < 0 || json_object_set_new(o, "tags", tags) < 0)
		return -ENOMEM;
	return json_object_set_new(o, "new_bytes", json_integer((json_int_t)f->image->new_bytes));
}

static int show_print_json(const struct image_file *f, struct err *e)
{
	uint64_t require = image_reader_require(f->reader);
	_cleanup_free_ char *text = NULL;
	char name[REPO_IMAGE_NAME_MAX];
	json_t *o, *file;
	size_t len;
	int r;

	r = manifest_to_json(f->manifest, &text, &len, e);
	if (r < 0)
		return r;
	o = json_loadb(text, len, 0, NULL);
	file = json_pack("{s:o, s:I, s:b, s:b, s:b}", "path",
			 render_json_string(image_file_name(f, name)), "size",
			 (json_int_t)image_reader_size(f->reader), "plain_zstd", !require, "resent",
			 (require & AMBRO_REQUIRE_RESENT) != 0, "sparse",
			 (require & AMBRO_REQUIRE_SPARSE) != 0);
	if (!o || !file || json_object_set_new(o, "file", file) < 0 ||
	    (f->image && show_add_repo(f, o) < 0)) {
		json_decref(o);
		return err_oom(e);
	}
	r = render_json(o, stdout);
	return r < 0 ? err_set_errno(e, r, "writing the result") : 0;
}

int verb_show(int argc, char **argv)
{
	static const struct option options[] = { VERB_HOST_OPTION, VERB_REPO_OPTIONS,
						 VERB_OPTIONS };
	_cleanup_(image_file_done) struct image_file f = IMAGE_FILE_NONE;
	struct err e = { 0 };
	int code, r;

	if (verb_getopt(argc, argv, "", options, show_help, &code) == VERB_GETOPT_RETURN)
		return code;
	if (argc - optind != 1)
		return verb_usage("show", "one image, please");
	r = image_file_open(argv[optind], false, &f, &e);
	if (r < 0)
		return verb_fail("show", &e);
	if (arg_json) {
		r = show_print_json(&f, &e);
	} else {
		r = show_print(&f);
		if (r < 0)
			err_oom(&e);
	}
	return r < 0 ? verb_fail("show", &e) : VERB_OK;
}
