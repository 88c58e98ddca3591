/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_args.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/image/codec.h"

static const char capture_help[] =
	"Usage: ambroctl capture [SOURCE…] -o FILE|- [-o FILE…] [OPTION]…\n"
	"Takes an image of SOURCE, which stays in use: a disk, a partition or volume, a mount point (the\n"
	"disk under it), or an image file. Without SOURCE: the disk that holds /. Several SOURCEs, each\n"
	"with an -o of its own, in the same order, are captured at one instant (by dm or kmod).\n"
	"\n"
	"  -o, --output FILE        the image; it has its name only when it is complete. '-' is stdout\n"
	"      --force              replace FILE\n"
	"      --strategy NAME      auto (default), dm (logical volume), kmod (module ambro), precopy\n"
	"                           (no snapshot), offline (nothing mounted), still (mounted read-only)\n"
	"      --cow WHERE          of dm and kmod: the COW store: auto (default), file (on the source),\n"
	"                           ram, a directory, or a block device, whose content is lost\n"
	"      --cow-size SIZE      of the COW store, in bytes, or with K, M, G (default: by the disk's use)\n"
	"      --on-overflow WHAT   when that is full: fail (default), or go on as precopy\n"
	"      --level LEVEL        fast, default, max, or zstd's number -7 … 19\n"
	"      --max-freeze MS      longest time a file system may stand still (default 2000)\n"
	"      --threads N          to compress with (default: one per CPU)\n"
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
	default:
		a->progress = true;
		return 0;
	}
}

/* Each source has its output. Returns an exit code, or -1 to go on. */
static int capture_parse_sources(int n, char **sources, struct capture_args *a)
{
	if (n > (int)CAPTURE_PARTS_MAX) {
		return verb_usage("capture", "more than %u disks cannot be captured together",
				  CAPTURE_PARTS_MAX);
	}
	if (!a->n_outputs)
		return verb_usage("capture", "where to? give -o FILE, or -o - for stdout");
	a->n_sources = n ? (unsigned int)n : 1;
	if (a->n_outputs != a->n_sources) {
		return verb_usage("capture", "%u source%s and %u outputs: give -o once for each",
				  a->n_sources, a->n_sources == 1 ? "" : "s", a->n_outputs);
	}
	for (int i = 0; i < n; i++) {
		if (!*sources[i])
			return verb_usage("capture", "the source is empty");
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
		{ "progress", no_argument, NULL, OPTION_PROGRESS },
		VERB_OPTIONS,
	};
	int c, code;

	while ((c = verb_getopt(argc, argv, "o:q", options, capture_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (capture_set(a, c) < 0)
			return VERB_USAGE;
	}
	return capture_parse_sources(argc - optind, argv + optind, a);
}
