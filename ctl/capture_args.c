/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_args.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/image/codec.h"
#include "lib/image/format.h"

static const char capture_help[] =
	"Usage: ambroctl capture [SOURCE…] -o FILE|- [-o FILE…] [OPTION]…\n"
	"       ambroctl capture [SOURCE…] --repo DIR [OPTION]…\n"
	"Takes an image of SOURCE, which stays in use: a disk, a partition or volume, a mount point (the\n"
	"disk under it), or an image file. Without SOURCE: the disk that holds /. Several SOURCEs, each\n"
	"with an -o of its own, in the same order, are captured at one instant (by dm or kmod).\n"
	"\n"
	"  -o, --output FILE        the image; it has its name only when it is complete. '-' is stdout\n"
	"      --force              replace FILE\n"
	"      --encrypt            encrypt FILE for a passphrase (--passphrase-file, --passphrase-fd, else asked\n"
	"                           for), or for:\n"
	"      --recipient KEY      a public key, or a file with one; may be repeated; only who has its secret\n"
	"                           half can read FILE (ambroctl-key(1))\n"
	"      --repo DIR           into this repository (default: $AMBRO_REPOSITORY), as HOST/DISK/TIME: only\n"
	"                           what changed since the last image of the disk is read and sent\n"
	"      --host, --disk NAME  as an image of this host, of this disk (default: as they are called)\n"
	"      --tag TAG            a tag; may be repeated\n"
	"      --full               read and send everything\n"
	"      --state-dir DIR      where to keep what is needed of the last image (default:\n"
	"                           $AMBRO_STATE_DIR, else /var/lib/ambro/state; '': nowhere)\n"
	"      --key-file FILE, --passphrase-file FILE, --passphrase-fd N\n"
	"                           of an encrypted repository, see ambroctl-key(1)\n"
	"      --strategy NAME      auto (default), dm (logical volume), kmod (module ambro), precopy\n"
	"                           (no snapshot), offline (nothing mounted), still (mounted read-only)\n"
	"      --cow WHERE          of dm and kmod: the COW store: auto (default), file (on the source),\n"
	"                           ram, a directory, or a block device, whose content is lost\n"
	"      --cow-size SIZE      of the COW store, in bytes, or with K, M, G (default: by the disk's use)\n"
	"      --on-overflow WHAT   when that is full: fail (default), or go on as precopy\n"
	"      --chunk-size SIZE    of FILE: 64K, 128K, 256K, 512K, 1M, 2M or 4M (default: by the disk's use);\n"
	"                           a repository takes files of its own chunk size, 128K if not said otherwise\n"
	"      --level LEVEL        fast, default, max, or zstd's number -7 … 19\n"
	"      --max-freeze MS      longest time a file system may stand still (default 2000)\n"
	"      --threads N          to compress with (default: one per CPU)\n"
	"      --hooks POLICY       when one of /etc/ambro/hooks.d fails: abort (default), continue; or off\n"
	"      --hook-timeout S     longest time that each of them may take (default 30)\n"
	"      --limit-read RATE    bytes to read per second, or with K, M, G\n"
	"      --limit-write RATE   the same of what is written\n"
	"      --full-speed         not behind the server's own work: usual I/O and CPU priority\n"
	"      --ignore-read-errors go on behind sectors that cannot be read; exit code 4 tells\n"
	"      --progress           with --json: progress as lines of JSON on stderr\n"
	"  -q, --quiet              no progress and no summary\n"
	"      --json               the result as one object on stdout (stderr when the image goes there)\n"
	"      --socket PATH        where the agent listens\n"
	"  -h, --help               this text\n"
	"\n"
	"Ctrl-C cancels; nothing half-done is left behind.\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 4 done, but some sectors could not be read;\n"
	"5 the agent cannot be reached; 6 refused (FILE exists or would lie on SOURCE; SOURCE\n"
	"is in use, or written to faster than it can be read); 7 not allowed; 130 interrupted.\n";

enum {
	OPTION_FORCE = VERB_OPTION_OWN,
	OPTION_STRATEGY,
	OPTION_LEVEL,
	OPTION_MAX_FREEZE,
	OPTION_THREADS,
	OPTION_IGNORE,
	OPTION_PROGRESS,
	OPTION_COW,
	OPTION_COW_SIZE,
	OPTION_OVERFLOW,
	OPTION_DISK,
	OPTION_TAG,
	OPTION_FULL,
	OPTION_STATE_DIR,
	OPTION_HOOKS,
	OPTION_HOOK_TIMEOUT,
	OPTION_LIMIT_READ,
	OPTION_LIMIT_WRITE,
	OPTION_FULL_SPEED,
	OPTION_ENCRYPT,
	OPTION_RECIPIENT,
	OPTION_CHUNK_SIZE,
};

static int capture_check_strategy(const char *name)
{
	static const char *const names[] = { "auto", "dm", "kmod", "precopy", "offline", "still" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return 0;
	}
	verb_usage("capture", "--strategy: %s is not auto, dm, kmod, precopy, offline or still",
		   name);
	return -EINVAL;
}

/* How it gets on with the rest of the server. */
static int capture_set_manners(struct capture_args *a, int option)
{
	switch (option) {
	case OPTION_HOOKS:
		a->hooks = optarg;
		if (!strcmp(optarg, "abort") || !strcmp(optarg, "continue") ||
		    !strcmp(optarg, "off"))
			return 0;
		verb_usage("capture", "--hooks: %s is not abort, continue or off", optarg);
		return -EINVAL;
	case OPTION_HOOK_TIMEOUT:
		return verb_parse_u64("capture", "--hook-timeout", optarg, 1, 600,
				      &a->hook_timeout_s);
	case OPTION_LIMIT_READ:
		return verb_parse_size("capture", "--limit-read", optarg, 64u << 10,
				       &a->limit_read);
	case OPTION_LIMIT_WRITE:
		return verb_parse_size("capture", "--limit-write", optarg, 64u << 10,
				       &a->limit_write);
	case OPTION_FULL_SPEED:
		a->full_speed = true;
		return 0;
	default:
		a->progress = true;
		return 0;
	}
}

static int capture_set_chunk_size(struct capture_args *a)
{
	if (verb_parse_size("capture", "--chunk-size", optarg, 1, &a->chunk_size) < 0)
		return -EINVAL;
	if (a->chunk_size >= UINT64_C(1) << AMBRO_CHUNK_SHIFT_MIN &&
	    a->chunk_size <= UINT64_C(1) << AMBRO_CHUNK_SHIFT_MAX &&
	    !(a->chunk_size & (a->chunk_size - 1)))
		return 0;
	verb_usage("capture", "--chunk-size: %s is not a power of two within 64K … 4M", optarg);
	return -EINVAL;
}

/* Of files. */
static int capture_set_file(struct capture_args *a, int option)
{
	if (option == OPTION_CHUNK_SIZE)
		return capture_set_chunk_size(a);
	if (option == OPTION_ENCRYPT) {
		a->encrypt = true;
		return 0;
	}
	if (a->n_recipients == SEALED_SLOTS_MAX - 1) {
		verb_usage("capture", "more than %d recipients", SEALED_SLOTS_MAX - 1);
		return -EINVAL;
	}
	a->recipients[a->n_recipients++] = optarg;
	return 0;
}

/* Of captures into a repository. */
static int capture_set_repo(struct capture_args *a, int option)
{
	switch (option) {
	case OPTION_DISK:
		a->disk = optarg;
		return verb_check_name("capture", "--disk", optarg);
	case OPTION_TAG:
		return tag_list_add(&a->tags, "capture", optarg);
	case OPTION_STATE_DIR:
		a->state_dir = optarg;
		return 0;
	default:
		a->full = true;
		return 0;
	}
}

static int capture_set(struct capture_args *a, int option)
{
	switch (option) {
	case 'o':
		if (a->n_outputs < CAPTURE_PARTS_MAX) {
			a->outputs[a->n_outputs++] = optarg;
			return 0;
		}
		verb_usage("capture", "more than %u outputs", CAPTURE_PARTS_MAX);
		return -EINVAL;
	case 'q':
		a->quiet = true;
		return 0;
	case OPTION_FORCE:
		a->force = true;
		return 0;
	case OPTION_STRATEGY:
		a->strategy = optarg;
		return capture_check_strategy(optarg);
	case OPTION_LEVEL:
		if (codec_level_parse(optarg, &a->level) == 0)
			return 0;
		verb_usage("capture", "--level: %s is not fast, default, max or -7 … 19", optarg);
		return -EINVAL;
	case OPTION_MAX_FREEZE:
		return verb_parse_u64("capture", "--max-freeze", optarg, 10, 60000,
				      &a->max_freeze_ms);
	case OPTION_THREADS:
		return verb_parse_u64("capture", "--threads", optarg, 1, 64, &a->threads);
	case OPTION_COW:
		a->cow = optarg;
		return 0;
	case OPTION_OVERFLOW:
		a->overflow = optarg;
		if (!strcmp(optarg, "fail") || !strcmp(optarg, "precopy"))
			return 0;
		verb_usage("capture", "--on-overflow: %s is not fail or precopy", optarg);
		return -EINVAL;
	case OPTION_COW_SIZE:
		return verb_parse_size("capture", "--cow-size", optarg, 8u << 20, &a->cow_size);
	case OPTION_IGNORE:
		a->ignore_read_errors = true;
		return 0;
	case OPTION_DISK:
	case OPTION_TAG:
	case OPTION_FULL:
	case OPTION_STATE_DIR:
		return capture_set_repo(a, option);
	case OPTION_ENCRYPT:
	case OPTION_RECIPIENT:
	case OPTION_CHUNK_SIZE:
		return capture_set_file(a, option);
	default:
		return capture_set_manners(a, option);
	}
}

/* What was said of keys must be what is done: an image in the clear by a slip is one too many. Returns as below. */
static int capture_check_keys(const struct capture_args *a)
{
	if (a->n_recipients && !a->encrypt)
		return verb_usage("capture", "--recipient is for --encrypt");
	if (a->to_repo) {
		return a->encrypt ? verb_usage("capture",
					       "--encrypt is for files; a repository is encrypted "
					       "or not when it is made (repo init --encrypt)")
				  : -1;
	}
	if (a->encrypt && arg_repo.keys.key_file) {
		return verb_usage("capture", "an image is encrypted for a public key: give "
					     "--recipient instead of --key-file");
	}
	if (!a->encrypt && key_source_given_by_hand(&arg_repo.keys)) {
		return verb_usage("capture",
				  "a key was given, but without --encrypt the image would be "
				  "written in the clear");
	}
	return -1;
}

/* Each source has its output. Returns an exit code, or -1 to go on. */
static int capture_parse_sources(int n, char **sources, struct capture_args *a)
{
	if (n > (int)CAPTURE_PARTS_MAX) {
		return verb_usage("capture", "more than %u disks cannot be captured together",
				  CAPTURE_PARTS_MAX);
	}
	/* the environment names one for all verbs; -o is meant for this capture */
	a->to_repo = arg_repo.path && (arg_repo.explicit || !a->n_outputs);
	if (a->to_repo && a->n_outputs)
		return verb_usage("capture", "into a repository or into a file? not both");
	if (a->to_repo && a->chunk_size) {
		return verb_usage("capture", "--chunk-size is for files; a repository has its own "
					     "(repo init --chunk-size)");
	}
	if (!a->to_repo && !a->n_outputs) {
		return verb_usage("capture",
				  "where to? give -o FILE, -o - for stdout, or --repo DIR");
	}
	a->n_sources = n ? (unsigned int)n : 1;
	if (!a->to_repo && a->n_outputs != a->n_sources) {
		return verb_usage("capture", "%u source%s and %u outputs: give -o once for each",
				  a->n_sources, a->n_sources == 1 ? "" : "s", a->n_outputs);
	}
	if (a->disk && n > 1)
		return verb_usage("capture", "--disk is one disk's name, and these are several");
	for (int i = 0; i < n; i++) {
		if (!*sources[i])
			return verb_usage("capture", "the source is empty");
		for (int k = 0; k < i; k++) {
			if (!strcmp(sources[i], sources[k]))
				return verb_usage("capture", "%s is given twice", sources[i]);
		}
		a->sources[i] = sources[i];
	}
	return -1;
}

int capture_args_parse(int argc, char **argv, struct capture_args *a)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "strategy", required_argument, NULL, OPTION_STRATEGY },
		{ "level", required_argument, NULL, OPTION_LEVEL },
		{ "max-freeze", required_argument, NULL, OPTION_MAX_FREEZE },
		{ "threads", required_argument, NULL, OPTION_THREADS },
		{ "ignore-read-errors", no_argument, NULL, OPTION_IGNORE },
		{ "cow", required_argument, NULL, OPTION_COW },
		{ "on-overflow", required_argument, NULL, OPTION_OVERFLOW },
		{ "cow-size", required_argument, NULL, OPTION_COW_SIZE },
		{ "hooks", required_argument, NULL, OPTION_HOOKS },
		{ "hook-timeout", required_argument, NULL, OPTION_HOOK_TIMEOUT },
		{ "limit-read", required_argument, NULL, OPTION_LIMIT_READ },
		{ "limit-write", required_argument, NULL, OPTION_LIMIT_WRITE },
		{ "full-speed", no_argument, NULL, OPTION_FULL_SPEED },
		{ "progress", no_argument, NULL, OPTION_PROGRESS },
		{ "disk", required_argument, NULL, OPTION_DISK },
		{ "tag", required_argument, NULL, OPTION_TAG },
		{ "full", no_argument, NULL, OPTION_FULL },
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
		{ "encrypt", no_argument, NULL, OPTION_ENCRYPT },
		{ "recipient", required_argument, NULL, OPTION_RECIPIENT },
		{ "chunk-size", required_argument, NULL, OPTION_CHUNK_SIZE },
		VERB_HOST_OPTION,
		VERB_REPO_OPTIONS,
		VERB_OPTIONS,
	};
	int c, code;

	while ((c = verb_getopt(argc, argv, "o:q", options, capture_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (capture_set(a, c) < 0)
			return VERB_USAGE;
	}
	code = capture_parse_sources(argc - optind, argv + optind, a);
	return code >= 0 ? code : capture_check_keys(a);
}
