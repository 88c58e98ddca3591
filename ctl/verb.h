/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verb - what every verb of ambroctl shares: the table's type, the common options, exit codes, errors.
 *
 * A verb is `int verb_NAME(int argc, char **argv)` in ctl/verb_NAME.c. It gets its own words only
 * (argv[0] is "ambroctl: NAME", so that getopt's messages look like ours), prints results to stdout and
 * everything else to stderr, and returns an exit code. A verb with an option loop looks so:
 *
 *	static const char help[] = "Usage: ambroctl show [OPTION]… IMAGE\n…";
 *	static const struct option options[] = { { "all", no_argument, NULL, 'a' }, VERB_OPTIONS };
 *	int code;
 *
 *	while ((c = verb_getopt(argc, argv, "a", options, help, &code)) >= 0)
 *		switch (c) { case 'a': …; break; case VERB_GETOPT_RETURN: return code; }
 *	… argv[optind] …
 */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/cancel.h"
#include "lib/base/err.h"

/* Exit codes; a verb's --help and the manual name those that it uses. Numbers never change. */
enum verb_exit {
	VERB_OK = 0,
	VERB_FAILED = 1,	/* anything that has no code of its own */
	VERB_USAGE = 2,		/* the command line is wrong */
	VERB_DAMAGED = 3,	/* the image is damaged, or is none */
	VERB_BAD_SECTORS = 4,	/* done, but sectors of the source could not be read */
	VERB_NO_AGENT = 5,	/* the agent cannot be reached */
	VERB_REFUSED = 6,	/* something in use, or something there that would be destroyed */
	VERB_DENIED = 7,	/* not allowed */
	VERB_INTERRUPTED = 130, /* by a signal; nothing half-done is left behind */
};

struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* returns an enum verb_exit */
	const char *summary;		   /* one line for --help */
};

int verb_capture(int argc, char **argv);
int verb_devices(int argc, char **argv);
int verb_export(int argc, char **argv);
int verb_forget(int argc, char **argv);
int verb_import(int argc, char **argv);
int verb_key(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_prune(int argc, char **argv);
int verb_repo(int argc, char **argv);
int verb_restore(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_show(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_verify(int argc, char **argv);

/* Common options, valid before and after the verb. In ctl/main.c; verbs only read them. */
extern bool arg_json;	       /* --json: the result is one JSON object (or array) on stdout */
extern const char *arg_socket; /* --socket, AMBRO_SOCKET or the default path */

#define VERB_OPTION_JSON	    1001
#define VERB_OPTION_SOCKET	    1002
#define VERB_OPTION_HELP	    1003
#define VERB_OPTION_REPO	    1004
#define VERB_OPTION_KEY_FILE	    1005
#define VERB_OPTION_PASSPHRASE_FILE 1006
#define VERB_OPTION_PASSPHRASE_FD   1007
#define VERB_OPTION_HOST	    1008
/* The first number that a verb may use for long options without a letter. */
#define VERB_OPTION_OWN 1100
/* End of a verb's option table. -h stands for --help in all verbs. */
/* clang-format off */
/* For those that select images; before VERB_REPO_OPTIONS. */
#define VERB_HOST_OPTION { "host", required_argument, NULL, VERB_OPTION_HOST }
/* Before VERB_OPTIONS in the tables of verbs that may work on a repository; kept in arg_repo (ctl/repo_arg.h). */
#define VERB_REPO_OPTIONS                                                              \
	{ "repo", required_argument, NULL, VERB_OPTION_REPO },                         \
	{ "key-file", required_argument, NULL, VERB_OPTION_KEY_FILE },                 \
	{ "passphrase-file", required_argument, NULL, VERB_OPTION_PASSPHRASE_FILE },   \
	{ "passphrase-fd", required_argument, NULL, VERB_OPTION_PASSPHRASE_FD }
#define VERB_OPTIONS                                                   \
	{ "json", no_argument, NULL, VERB_OPTION_JSON },               \
	{ "socket", required_argument, NULL, VERB_OPTION_SOCKET },     \
	{ "help", no_argument, NULL, VERB_OPTION_HELP },               \
	{ NULL, 0, NULL, 0 }
/* clang-format on */

/* Their lines of help. */
#define VERB_HOST_HELP "      --host NAME           only images of this host\n"
#define VERB_REPO_HELP                                                                              \
	"      --repo DIR            the repository (default: $AMBRO_REPOSITORY)\n"                 \
	"      --key-file FILE       the secret key of an encrypted repository or file\n"           \
	"      --passphrase-file F   its passphrase; without any of these: systemd's credentials\n" \
	"      --passphrase-fd N     ambro-key and ambro-passphrase, or a prompt\n"

/* verb_getopt() did all there is to do: return *ret_code. */
#define VERB_GETOPT_RETURN 1000
/*
 * As getopt_long(), with the common options dealt with: returns a value of @options, -1 behind the last
 * one, or VERB_GETOPT_RETURN after --help (printed) or a wrong option (said); *ret_code is then set.
 */
int verb_getopt(int argc, char **argv, const char *letters, const struct option *options,
		const char *help, int *ret_code);

/*
 * Parse the decimal number that was given for @what ("--threads"), @min … @max. Returns 0, or -EINVAL after
 * telling the user.
 */
int verb_parse_u64(const char *verb, const char *what, const char *text, uint64_t min, uint64_t max,
		   uint64_t *ret);
/* The same for bytes, with K, M, G or T behind the number for powers of 1024. */
int verb_parse_size(const char *verb, const char *what, const char *text, uint64_t min,
		    uint64_t *ret);
/*
 * Is @text what a host, a disk or a tag in a repository may be called? What a person writes is never made to fit: it would
 * be another's name. 0, or -EINVAL after telling the user.
 */
int verb_check_name(const char *verb, const char *what, const char *text);

/* "ambroctl: VERB: …" on stderr, one line, unprintable characters escaped. */
void verb_say(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* verb_say() plus "Try 'ambroctl VERB --help'."; returns VERB_USAGE. */
int verb_usage(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Say @e->text and return the exit code for @e->code. */
int verb_fail(const char *verb, const struct err *e);
/*
 * -EBADMSG: damaged; -EBUSY, -EEXIST, -EISDIR, -ETXTBSY, -EXDEV: refused; -EACCES, -EPERM, -ENOKEY: denied;
 * -ENOTCONN: no agent; -ECANCELED: interrupted; 0: ok; else failed.
 */
int verb_exit_of(int code);

/*
 * SIGINT, SIGTERM and SIGHUP raise the cancel that is returned (one for the process, never freed), and a
 * second SIGINT kills as usual. For verbs that do their work in loops; call it before making threads.
 * NULL only when out of descriptors.
 */
struct cancel *verb_catch_signals(void);
