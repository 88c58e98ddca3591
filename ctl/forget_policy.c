/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/forget_policy.h"

#include <errno.h>
#include <string.h>

/* "36h", "14d", "8w" */
static int policy_within(struct forget_policy *p, const char *verb)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} units[] = { { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	const size_t len = strlen(optarg);
	char number[16];
	uint64_t v;

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		if (len < 2 || len > sizeof(number) || optarg[len - 1] != units[i].letter)
			continue;
		memcpy(number, optarg, len - 1);
		number[len - 1] = '\0';
		if (verb_parse_u64(verb, "--keep-within", number, 1, 1000000, &v) < 0)
			return -EINVAL;
		p->policy.keep_within_s = v * units[i].seconds;
		return 0;
	}
	verb_usage(verb, "--keep-within: %s is not a time such as 36h, 14d or 8w", optarg);
	return -EINVAL;
}

static int policy_tag(struct forget_policy *p, const char *verb)
{
	if (p->policy.n_keep_tags == FORGET_TAGS_MAX) {
		verb_usage(verb, "--keep-tag: no more than %d, please", FORGET_TAGS_MAX);
		return -EINVAL;
	}
	p->tags[p->policy.n_keep_tags++] = optarg;
	p->policy.keep_tags = p->tags;
	return 0;
}

int forget_policy_option(struct forget_policy *p, const char *verb, int option)
{
	static const char *const names[] = {
		"--keep-last",	 "--keep-hourly",  "--keep-daily",
		"--keep-weekly", "--keep-monthly", "--keep-yearly",
	};
	const unsigned int rule = (unsigned int)(option - FORGET_OPTION_LAST);
	uint64_t n = RETENTION_ALL;

	p->given = true;
	if (option == FORGET_OPTION_WITHIN)
		return policy_within(p, verb);
	if (option == FORGET_OPTION_KEEP_TAG)
		return policy_tag(p, verb);
	if (strcmp(optarg, "all") != 0 &&
	    verb_parse_u64(verb, names[rule], optarg, 0, 1000000, &n) < 0)
		return -EINVAL;
	p->policy.keep[RETENTION_LAST + rule] = (uint32_t)n;
	return 0;
}
