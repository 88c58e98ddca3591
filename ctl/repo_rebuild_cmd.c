/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/repo_rebuild_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"
#include "lib/repo/repo_rebuild.h"

#define WORD "repo rebuild-format"

static const char rebuild_help[] =
	"Usage: ambroctl repo rebuild-format [OPTION]…\n"
	"Make the object \"format\" anew, where it is lost or damaged and there is no copy of it, of what images,\n"
	"packs, index files and key slots say. Where these do not agree nothing is done. Nothing else is changed.\n"
	"\n" VERB_REPO_HELP "      --dry-run             only say what would be done\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"An encrypted repository takes a key with full rights.\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the objects do not agree, or too little is left;\n"
	"6 \"format\" is there, and whole; 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_DRY_RUN = VERB_OPTION_OWN,
};

static int rebuild_run(bool dry_run, struct repo **ret, struct repo_rebuild_result *result,
		       struct err *e)
{
	const struct cancel *cancel = verb_catch_signals();
	_cleanup_(repo_freep) struct repo *repo = NULL;
	struct store *store = NULL;
	int r;

	r = repo_arg_store(&arg_repo, false, &store, e);
	if (r < 0)
		return r;
	r = repo_rebuild_open(store, cancel, &repo, result, e);
	if (repo && !repo->format.encrypted && key_source_given(&arg_repo.keys)) {
		r = err_set(e, -EINVAL,
			    "what is left is of a repository that is not encrypted, but a key was "
			    "given: was it replaced?");
	} else if (repo && repo->format.encrypted) {
		r = key_source_unlock(&arg_repo.keys, repo, e);
	}
	if (r >= 0)
		r = repo_rebuild(repo, dry_run, cancel, result, e);
	if (r < 0) {
		err_prefix(e, "%s", arg_repo.path);
		return r;
	}
	*ret = TAKE_PTR(repo);
	return 0;
}

static int rebuild_print_json(const struct repo_format *f, const struct repo_rebuild_result *r,
			      bool dry_run)
{
	char id[2 * REPO_ID_SIZE + 1];
	json_t *o = json_pack("{s:b, s:b, s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "dry_run",
			      (int)dry_run, "damaged", (int)r->damaged, "repository",
			      hex_encode(f->id, sizeof(f->id), id), "chunk_size",
			      (json_int_t)(UINT64_C(1) << f->chunk_shift), "encrypted",
			      (int)f->encrypted, "created_ns", (json_int_t)f->created_ns, "objects",
			      (json_int_t)r->objects, "objects_damaged",
			      (json_int_t)r->objects_damaged, "images", (json_int_t)r->images,
			      "images_damaged", (json_int_t)r->images_damaged, "keys",
			      (json_int_t)r->slots);

	return render_json(o, stdout);
}

static void rebuild_print(const struct repo_format *f, const struct repo_rebuild_result *r,
			  bool dry_run)
{
	char id[2 * REPO_ID_SIZE + 1], size[RENDER_MAX], images[RENDER_MAX];

	printf("%s \"format\" anew: repository %.8s, chunks of %s, %s; %" PRIu64
	       " packs, index files and images agree, %s of them read",
	       dry_run ? "would make" : "made", hex_encode(f->id, sizeof(f->id), id),
	       render_size(UINT64_C(1) << f->chunk_shift, size),
	       f->encrypted ? "encrypted" : "not encrypted", r->objects,
	       render_count(r->images, "image", "images", images));
	if (r->objects_damaged || r->images_damaged) {
		printf("; not asked: %" PRIu64 " with a damaged beginning, %s that cannot be read",
		       r->objects_damaged,
		       render_count(r->images_damaged, "image", "images", images));
	}
	putchar('\n');
	if (!dry_run)
		puts("Keep a copy of it elsewhere, with keys/; 'ambroctl repo check' says what else is damaged.");
}

int repo_rebuild_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	_cleanup_(repo_freep) struct repo *repo = NULL;
	struct repo_rebuild_result result = { 0 };
	struct err e = { 0 };
	bool dry_run = false;
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, rebuild_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		dry_run |= c == OPTION_DRY_RUN;
	}
	if (argc != optind)
		return verb_usage(WORD, "it takes no argument: give --repo DIR");
	if (repo_arg_require(&e) < 0 || rebuild_run(dry_run, &repo, &result, &e) < 0)
		return verb_fail(WORD, &e);
	if (arg_json) {
		return rebuild_print_json(&repo->format, &result, dry_run) < 0 ? VERB_FAILED
									       : VERB_OK;
	}
	rebuild_print(&repo->format, &result, dry_run);
	return VERB_OK;
}
