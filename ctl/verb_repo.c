/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/repo_check_cmd.h"
#include "ctl/repo_rebuild_cmd.h"
#include "ctl/repo_repair_cmd.h"
#include "ctl/verb.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/base/text.h"
#include "lib/repo/keys.h"
#include "lib/repo/repo_image.h"

static const char repo_help[] =
	"Usage: ambroctl repo init|info|check|repair|rebuild-format|gc [OPTION]…\n"
	"A repository: images of many machines, each whole on its own, stored once what they share.\n"
	"\n"
	"  init            make one\n"
	"  info            what it is and how much it holds\n"
	"  check           is everything there; with --read-data every byte\n"
	"  repair          make the index anew from the packs, and drop from it what cannot be read\n"
	"  rebuild-format  make the object \"format\" anew when it is lost or damaged\n"
	"  gc              give back the space that no image uses ('ambroctl prune')\n"
	"\n"
	"'ambroctl repo WORD --help' says more.\n";

static const char init_help[] =
	"Usage: ambroctl repo init [OPTION]…\n"
	"Make a repository in a directory that is empty, or not there: then it is made.\n"
	"\n" VERB_REPO_HELP
	"      --chunk-size SIZE     64K, 128K (default), 256K, 512K, 1M, 2M or 4M; never to be changed\n"
	"      --encrypt             everything is encrypted here, before it is written\n"
	"      --recovery-key FILE   with --encrypt: also make a key pair, and write its secret half to FILE, to\n"
	"                            be kept elsewhere\n"
	"      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"With --encrypt the key is a passphrase (--passphrase-file, --passphrase-fd, or asked for), or the\n"
	"secret key in --key-file.\n"
	"\n"
	"Exit codes: 0 made; 1 failed; 2 wrong command line; 3 there was one, whose object \"format\" is gone;\n"
	"6 there is one already, or other things; 7 not allowed.\n";

static const char info_help[] =
	"Usage: ambroctl repo info [OPTION]…\n"
	"What a repository is, and how much it holds.\n"
	"\n" VERB_REPO_HELP "      --json                the result is one object\n"
	"  -h, --help                this text\n"
	"\n"
	"Exit codes: 0 shown; 1 failed; 2 wrong command line; 7 not allowed.\n";

enum {
	OPTION_CHUNK_SIZE = VERB_OPTION_OWN,
	OPTION_ENCRYPT,
	OPTION_RECOVERY,
};

struct init_args {
	uint64_t chunk_size;
	bool encrypt;
	const char *recovery;
};

/* ---- init --------------------------------------------------------------------------------------- */

/*
 * A repository's folders are all that may be there (repo_init_check() looks at what is in them), and what a new file system
 * has: who names a directory with other things in it has mistaken it, and tmp/ is cleaned.
 */
static bool init_may_be_there(const char *name)
{
	static const char *const fine[] = { ".",  "..",	  "packs", "index",	"images",
					    "gc", "keys", "tmp",   "lost+found" };

	for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
		if (!strcmp(name, fine[i]))
			return true;
	}
	return false;
}

static int init_look(const char *path, struct err *e)
{
	DIR *dir = opendir(path);
	const struct dirent *d;
	char name[RENDER_MAX];
	int r;

	if (!dir)
		return err_set_errno(e, -errno, "cannot read it");
	do {
		errno = 0;
		/* of a stream of its own it is thread-safe */
		d = readdir(dir); /* NOLINT(concurrency-mt-unsafe) */
	} while (d && init_may_be_there(d->d_name));
	r = -errno;
	if (d) {
		text_clean(d->d_name, true, name, sizeof(name));
		r = err_set(
			e, -EEXIST,
			"there are other things in it (%s): a repository is made in a directory "
			"that is empty, or not there yet",
			name);
	} else if (r < 0) {
		err_set_errno(e, r, "cannot read it");
	}
	closedir(dir);
	return r;
}

/* "format", behind the key slots; then what other inits left that did not come so far. */
static int init_commit(struct store *s, const struct repo_format *f, struct err *e)
{
	struct err swept = { 0 };
	int r = repo_init(s, f, e);

	if ((r == 0 || r == -EEXIST) && keys_sweep(s, &swept) < 0) {
		verb_say("repo", "key slots that an earlier 'repo init' left are still there: %s",
			 swept.text);
	}
	return r;
}

static int init_make(const struct init_args *a, struct repo_format *f, struct err *e)
{
	_cleanup_(store_freep) struct store *s = NULL;
	int r;

	if (getrandom(f->id, sizeof(f->id), 0) != sizeof(f->id))
		return err_set_errno(e, -errno, "no random numbers");
	f->chunk_shift = (unsigned int)__builtin_ctzll(a->chunk_size);
	f->encrypted = a->encrypt;
	f->created_ns = io_realtime_ns();
	r = repo_arg_store(&arg_repo, true, &s, e);
	if (r < 0)
		return r;
	r = repo_init_check(s, e);
	if (r >= 0)
		r = init_look(arg_repo.path, e);
	/* the key first: a repository without one would be of no use to anybody */
	if (r >= 0 && a->encrypt)
		r = key_source_init(&arg_repo.keys, s, f, a->recovery, e);
	if (r >= 0)
		r = init_commit(s, f, e);
	if (r < 0)
		err_prefix(e, "%s", arg_repo.path);
	return MIN(r, 0);
}

static int init_check(const struct init_args *a, struct err *e)
{
	if (a->chunk_size < 1u << AMBRO_CHUNK_SHIFT_MIN ||
	    a->chunk_size > 1u << AMBRO_CHUNK_SHIFT_MAX ||
	    (a->chunk_size & (a->chunk_size - 1)) != 0) {
		return err_set(e, -EINVAL, "--chunk-size: a power of two within 64K … 4M, please");
	}
	if (!a->encrypt && (key_source_given(&arg_repo.keys) || a->recovery))
		return err_set(e, -EINVAL, "a key was given: is --encrypt missing?");
	return repo_arg_require(e);
}

static int init_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "chunk-size", required_argument, NULL, OPTION_CHUNK_SIZE },
		{ "encrypt", no_argument, NULL, OPTION_ENCRYPT },
		{ "recovery-key", required_argument, NULL, OPTION_RECOVERY },
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	struct init_args a = { .chunk_size = UINT64_C(1) << REPO_CHUNK_SHIFT_DEFAULT };
	char id[2 * REPO_ID_SIZE + 1];
	struct repo_format f = { 0 };
	struct err e = { 0 };
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, init_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (c == OPTION_ENCRYPT) {
			a.encrypt = true;
		} else if (c == OPTION_RECOVERY) {
			a.recovery = optarg;
		} else if (verb_parse_size("repo", "--chunk-size", optarg, 1, &a.chunk_size) < 0) {
			return VERB_USAGE;
		}
	}
	if (argc != optind)
		return verb_usage("repo", "init takes no argument: give --repo DIR");
	if (init_check(&a, &e) < 0)
		return verb_usage("repo", "%s", e.text);
	if (init_make(&a, &f, &e) < 0)
		return verb_fail("repo", &e);
	hex_encode(f.id, sizeof(f.id), id);
	if (arg_json) {
		return render_json(json_pack("{s:o, s:s, s:I, s:b}", "path",
					     render_json_string(arg_repo.path), "repository", id,
					     "chunk_size", (json_int_t)a.chunk_size, "encrypted",
					     (int)a.encrypt),
				   stdout) < 0
			       ? VERB_FAILED
			       : VERB_OK;
	}
	printf("made repository %.8s in %s%s\n", id, arg_repo.path,
	       a.encrypt ? ", encrypted: without a key nobody reads it" : "");
	return VERB_OK;
}

/* ---- info --------------------------------------------------------------------------------------- */

struct info {
	struct repo *repo;
	struct repo_images images;
	uint64_t packs, pack_bytes, indexes, index_bytes, keys;
};

static int info_count(void *ctx, const char *name, uint64_t size)
{
	struct info *i = ctx;

	if (!strncmp(name, "packs/", 6)) {
		i->packs++;
		i->pack_bytes += size;
	} else if (!strncmp(name, "index/", 6)) {
		i->indexes++;
		i->index_bytes += size;
	} else {
		i->keys++;
	}
	return 0;
}

static int info_load(struct info *i, struct err *e)
{
	static const char *const folders[] = { "packs/", "index/", "keys/" };
	int r;

	r = repo_arg_require(e);
	if (r >= 0)
		r = repo_arg_open(&arg_repo, REPO_ARG_CHUNKS, &i->repo, e);
	for (size_t k = 0; k < ARRAY_SIZE(folders) && r >= 0; k++)
		r = store_list(i->repo->store, folders[k], info_count, i, e);
	return r < 0 ? r : repo_images_load(i->repo, false, &i->images, e);
}

static int info_print(const struct info *i)
{
	const struct repo_format *f = &i->repo->format;
	char id[2 * REPO_ID_SIZE + 1], a[RENDER_MAX], b[RENDER_MAX];
	uint64_t disks = 0;

	for (size_t k = 0; k < i->images.count; k++)
		disks += i->images.items[k]->manifest->disk_size;
	hex_encode(f->id, sizeof(f->id), id);
	if (arg_json) {
		return render_json(
			json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
				  "repository", id, "chunk_size",
				  (json_int_t)(UINT64_C(1) << f->chunk_shift), "encrypted",
				  (int)f->encrypted, "keys", (json_int_t)i->keys, "images",
				  (json_int_t)i->images.count, "damaged_images",
				  (json_int_t)i->images.damaged, "disk_bytes", (json_int_t)disks,
				  "packs", (json_int_t)i->packs, "pack_bytes",
				  (json_int_t)i->pack_bytes, "index_files", (json_int_t)i->indexes,
				  "index_bytes", (json_int_t)i->index_bytes, "entries",
				  (json_int_t)repo_index_entries(i->repo->index)),
			stdout);
	}
	printf("Repository  %s\n", id);
	printf("Made        %s\n", render_time(f->created_ns, a));
	printf("Chunks      %s\n", render_size(UINT64_C(1) << f->chunk_shift, a));
	printf("Encryption  %s\n", f->encrypted ? "XChaCha20-Poly1305" : "none");
	if (f->encrypted)
		printf("Keys        %" PRIu64 "\n", i->keys);
	printf("Images      %zu, of disks of %s in all\n", i->images.count, render_size(disks, a));
	printf("Packs       %" PRIu64 ", %s\n", i->packs, render_size(i->pack_bytes, a));
	printf("Index       %" PRIu64 " files, %s, %" PRIu64 " entries\n", i->indexes,
	       render_size(i->index_bytes, b), repo_index_entries(i->repo->index));
	return 0;
}

static void info_done(struct info *i)
{
	repo_images_done(&i->images);
	repo_free(i->repo);
}

static int info_main(int argc, char **argv)
{
	static const struct option options[] = { VERB_REPO_OPTIONS, VERB_OPTIONS };
	_cleanup_(info_done) struct info i = { 0 };
	struct err e = { 0 };
	int code;

	if (verb_getopt(argc, argv, "", options, info_help, &code) == VERB_GETOPT_RETURN)
		return code;
	if (argc != optind)
		return verb_usage("repo", "info takes no argument");
	if (info_load(&i, &e) < 0)
		return verb_fail("repo", &e);
	return info_print(&i) < 0 ? VERB_FAILED : VERB_OK;
}

/* ---- the verb ----------------------------------------------------------------------------------- */

int verb_repo(int argc, char **argv)
{
	static const struct verb words[] = {
		{ "init", init_main, NULL },
		{ "info", info_main, NULL },
		{ "check", repo_check_main, NULL },
		{ "repair", repo_repair_main, NULL },
		{ "rebuild-format", repo_rebuild_main, NULL },
		{ "gc", verb_prune, NULL },
	};
	const char *word = argc > 1 ? argv[1] : "";

	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		fputs(repo_help, stdout);
		return VERB_OK;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		char name[48];

		if (strcmp(word, words[i].name) != 0)
			continue;
		snprintf(name, sizeof(name), "ambroctl: repo %s", word);
		argv[1] = name;
		return words[i].run(argc - 1, argv + 1);
	}
	return verb_usage("repo", "%s%sinit, info, check, repair, rebuild-format or gc?", word,
			  *word ? ": " : "");
}
