/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ambroctl - take an image of a live disk, look at it, check it, put it back.
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"

#define MAIN_SOCKET "/run/ambro/control.sock"

bool arg_json;
const char *arg_socket = MAIN_SOCKET;

static const struct verb main_verbs[] = {
	{ "capture", verb_capture, "take an image of a disk that is in use" },
	{ "devices", verb_devices, "the disks of this machine, and how each would be captured" },
	{ "export", verb_export, "write an image of a repository as a file" },
	{ "forget", verb_forget, "let images of a repository go" },
	{ "import", verb_import, "put an image file into a repository" },
	{ "key", verb_key, "who can open an encrypted repository" },
	{ "list", verb_list, "the images of a repository" },
	{ "prune", verb_prune, "give back the space that no image uses" },
	{ "repo", verb_repo, "make, check and look after a repository" },
	{ "restore", verb_restore, "write an image back to a disk" },
	{ "run", verb_run, "do a periodic capture, as its file says" },
	{ "show", verb_show, "what an image holds" },
	{ "status", verb_status, "the agent and its captures" },
	{ "verify", verb_verify, "check every byte of an image" },
};

static const char main_help_head[] = "Usage: ambroctl [OPTION]… VERB [ARGUMENT]…\n"
				     "Images of a running machine's disks.\n"
				     "\n";
static const char main_help_tail[] =
	"\n"
	"      --socket PATH  where the agent listens (default: $AMBRO_SOCKET or " MAIN_SOCKET ")\n"
	"      --json         results as JSON on stdout\n"
	"  -h, --help         this text; 'ambroctl VERB --help' says more\n"
	"  -V, --version      the version\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the image is damaged; 4 done, but some\n"
	"sectors could not be read; 5 the agent cannot be reached; 6 refused, because something is in use\n"
	"or would be destroyed; 7 not allowed; 130 interrupted.\n";

static int main_print_help(void)
{
	fputs(main_help_head, stdout);
	for (size_t i = 0; i < ARRAY_SIZE(main_verbs); i++)
		printf("  %-18s %s\n", main_verbs[i].name, main_verbs[i].summary);
	fputs(main_help_tail, stdout);
	return VERB_OK;
}

static int main_run(const struct verb *v, int argc, char **argv)
{
	char name[32];
	int code;

	snprintf(name, sizeof(name), "ambroctl: %s", v->name);
	argv[0] = name;
	/* getopt starts again, on the verb's words */
	optind = 0;
	code = v->run(argc, argv);
	/* a full disk under `ambroctl … >file` must not look like success */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		verb_say(v->name, "cannot write the output");
		return code == VERB_OK ? VERB_FAILED : code;
	}
	return code;
}

static int main_dispatch(int argc, char **argv)
{
	if (optind >= argc)
		return verb_usage("", "which verb?");
	for (size_t i = 0; i < ARRAY_SIZE(main_verbs); i++) {
		if (!strcmp(argv[optind], main_verbs[i].name))
			return main_run(&main_verbs[i], argc - optind, argv + optind);
	}
	return verb_usage("", "%s is not a verb", argv[optind]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, VERB_OPTION_JSON },
		{ "socket", required_argument, NULL, VERB_OPTION_SOCKET },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	const char *env;
	int c;

	/* NOLINTBEGIN(concurrency-mt-unsafe): no threads yet */
	setlocale(LC_CTYPE, "");
	env = getenv("AMBRO_SOCKET");
	if (env && *env)
		arg_socket = env;
	env = getenv("AMBRO_REPOSITORY");
	if (env && *env)
		arg_repo.path = env;
	/* '+': what follows the verb is the verb's */
	while ((c = getopt_long(argc, argv, "+hV", options, NULL)) >= 0) {
		/* NOLINTEND(concurrency-mt-unsafe) */
		switch (c) {
		case VERB_OPTION_JSON:
			arg_json = true;
			break;
		case VERB_OPTION_SOCKET:
			arg_socket = optarg;
			break;
		case 'h':
			return main_print_help();
		case 'V':
			puts("ambroctl " AMBRO_VERSION);
			return VERB_OK;
		default:
			fputs("Try 'ambroctl --help'.\n", stderr);
			return VERB_USAGE;
		}
	}
	/* a reader that goes away is an error of write(2), told in words */
	signal(SIGPIPE, SIG_IGN);
	return main_dispatch(argc, argv);
}
