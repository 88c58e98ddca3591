/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/verb.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/repo_arg.h"
#include "lib/base/cleanup.h"
#include "lib/base/text.h"
#include "lib/repo/repo_image.h"

#define VERB_LINE_MAX 2048

static void verb_say_v(const char *verb, const char *format, va_list ap)
{
	char text[VERB_LINE_MAX], clean[VERB_LINE_MAX];

	vsnprintf(text, sizeof(text), format, ap);
	fprintf(stderr, "ambroctl: %s%s%s\n", verb, *verb ? ": " : "",
		text_clean(text, true, clean, sizeof(clean)));
}

void verb_say(const char *verb, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	verb_say_v(verb, format, ap);
	va_end(ap);
}

int verb_usage(const char *verb, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	verb_say_v(verb, format, ap);
	va_end(ap);
	fprintf(stderr, "Try 'ambroctl %s%s--help'.\n", verb, *verb ? " " : "");
	return VERB_USAGE;
}

int verb_exit_of(int code)
{
	switch (-code) {
	case 0:
		return VERB_OK;
	case EBADMSG:
		return VERB_DAMAGED;
	case EBUSY:
	case EEXIST:
	case EISDIR:
	case ETXTBSY:
	case EXDEV: /* the image would lie on its own source */
		return VERB_REFUSED;
	case EACCES:
	case EPERM:
	case ENOKEY: /* an encrypted repository without the key for it */
		return VERB_DENIED;
	case ENOTCONN:
		return VERB_NO_AGENT;
	case ECANCELED:
		return VERB_INTERRUPTED;
	default:
		return VERB_FAILED;
	}
}

int verb_fail(const char *verb, const struct err *e)
{
	verb_say(verb, "%s", *e->text ? e->text : "failed");
	return e->code < 0 ? verb_exit_of(e->code) : VERB_FAILED;
}

/* One of VERB_REPO_OPTIONS. Returns whether it was, and a wrong value as -EINVAL after telling. */
static int verb_repo_option(const char *verb, int option)
{
	uint64_t fd;

	switch (option) {
	case VERB_OPTION_REPO:
		arg_repo.path = optarg;
		arg_repo.explicit = true;
		return 1;
	case VERB_OPTION_HOST:
		if (verb_check_name(verb, "--host", optarg) < 0)
			return -EINVAL;
		arg_repo.host = optarg;
		return 1;
	case VERB_OPTION_KEY_FILE:
		arg_repo.keys.key_file = optarg;
		return 1;
	case VERB_OPTION_PASSPHRASE_FILE:
		arg_repo.keys.passphrase_file = optarg;
		return 1;
	case VERB_OPTION_PASSPHRASE_FD:
		if (verb_parse_u64(verb, "--passphrase-fd", optarg, 0, INT_MAX, &fd) < 0)
			return -EINVAL;
		arg_repo.keys.passphrase_fd = (int)fd;
		return 1;
	default:
		return 0;
	}
}

int verb_getopt(int argc, char **argv, const char *letters, const struct option *options,
		const char *help, int *ret_code)
{
	/* argv[0] is "ambroctl: VERB" */
	const char *space = strchr(argv[0], ' '), *verb = space ? space + 1 : "";
	char all[64];

	snprintf(all, sizeof(all), "%sh", letters);
	for (;;) {
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): the command line is read before threads are made */
		int c = getopt_long(argc, argv, all, options, NULL);

		switch (c) {
		case VERB_OPTION_JSON:
			arg_json = true;
			break;
		case VERB_OPTION_SOCKET:
			arg_socket = optarg;
			break;
		case VERB_OPTION_HELP:
		case 'h':
			fputs(help, stdout);
			*ret_code = VERB_OK;
			return VERB_GETOPT_RETURN;
		case '?':
			fprintf(stderr, "Try 'ambroctl%s --help'.\n", space ? space : "");
			*ret_code = VERB_USAGE;
			return VERB_GETOPT_RETURN;
		default:
			*ret_code = VERB_USAGE;
			switch (verb_repo_option(verb, c)) {
			case 0:
				return c;
			case 1:
				break;
			default:
				return VERB_GETOPT_RETURN;
			}
		}
	}
}

int verb_parse_u64(const char *verb, const char *what, const char *text, uint64_t min, uint64_t max,
		   uint64_t *ret)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	/* strtoull() takes signs and spaces */
	if (*text < '0' || *text > '9' || *end || errno || v < min || v > max) {
		verb_usage(verb, "%s: %s is not a number within %" PRIu64 " … %" PRIu64, what, text,
			   min, max);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

int verb_parse_size(const char *verb, const char *what, const char *text, uint64_t min,
		    uint64_t *ret)
{
	static const char units[] = "KMGT";
	unsigned long long v;
	const char *unit;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (*text < '0' || *text > '9' || *end || errno ||
	    v > (unsigned long long)INT64_MAX >> shift || v << shift < min) {
		verb_usage(verb, "%s: %s is not a size of at least %" PRIu64 " (with K, M, G or T)",
			   what, text, min);
		return -EINVAL;
	}
	*ret = v << shift;
	return 0;
}

int verb_check_name(const char *verb, const char *what, const char *text)
{
	if (repo_image_word_valid(text))
		return 0;
	verb_usage(verb,
		   "%s: '%s' is not a name of at most %d letters, digits, '_', '-' and '.', of "
		   "which the latter two never come first",
		   what, text, REPO_IMAGE_WORD_MAX);
	return -EINVAL;
}

static struct cancel verb_cancel;

static void verb_signalled(int signo)
{
	(void)signo;
	cancel_raise(&verb_cancel);
}

struct cancel *verb_catch_signals(void)
{
	/* the second one kills */
	struct sigaction sa = { .sa_handler = verb_signalled, .sa_flags = SA_RESETHAND };
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	if (cancel_init(&verb_cancel) < 0)
		return NULL;
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
	return &verb_cancel;
}
