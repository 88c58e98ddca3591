/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/retention.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/cleanup.h"

#define NS_PER_S   1000000000ULL
#define PERIOD_MAX 32

static const char *const retention_names[RETENTION_RULES] = {
	[RETENTION_LAST] = "last",	 [RETENTION_HOURLY] = "hourly",
	[RETENTION_DAILY] = "daily",	 [RETENTION_WEEKLY] = "weekly",
	[RETENTION_MONTHLY] = "monthly", [RETENTION_YEARLY] = "yearly",
	[RETENTION_WITHIN] = "within",	 [RETENTION_TAG] = "tag",
};

/* The name of the period that @tm is in, which is also what tells it from others; "" for rules that know none. */
static void retention_period(const struct tm *tm, enum retention_rule rule, char buf[PERIOD_MAX])
{
	*buf = '\0';
	switch (rule) {
	case RETENTION_HOURLY:
		strftime(buf, PERIOD_MAX, "%Y-%m-%d %H:00", tm);
		break;
	case RETENTION_DAILY:
		strftime(buf, PERIOD_MAX, "%Y-%m-%d", tm);
		break;
	case RETENTION_WEEKLY:
		strftime(buf, PERIOD_MAX, "%G-W%V", tm);
		break;
	case RETENTION_MONTHLY:
		strftime(buf, PERIOD_MAX, "%Y-%m", tm);
		break;
	case RETENTION_YEARLY:
		strftime(buf, PERIOD_MAX, "%Y", tm);
		break;
	default:
		break;
	}
}

/* The years that nanoseconds of 64 bits can tell, 1970 … 2554, all have one. */
static struct tm retention_tm(const struct retention_image *image)
{
	time_t s = (time_t)(image->time_ns / NS_PER_S);
	struct tm tm = { 0 };

	gmtime_r(&s, &tm);
	return tm;
}

/* By group, newest first. */
static int retention_compare(const void *a, const void *b)
{
	const struct retention_image *x = *(const struct retention_image *const *)a,
				     *y = *(const struct retention_image *const *)b;
	int c = strcmp(x->group, y->group);

	if (c != 0)
		return c;
	if (x->time_ns != y->time_ns)
		return x->time_ns > y->time_ns ? -1 : 1;
	return strcmp(y->id, x->id);
}

/* What the rules with a count remember from one image of a group to the next older one. */
struct tally {
	uint32_t left[RETENTION_YEARLY + 1];
	char latest[RETENTION_YEARLY + 1][PERIOD_MAX]; /* "": none yet */
};

static uint32_t tally_count(struct tally *t, const struct retention_image *image)
{
	const struct tm tm = retention_tm(image);
	uint32_t rules = 0;

	for (enum retention_rule rule = RETENTION_LAST; rule <= RETENTION_YEARLY; rule++) {
		char period[PERIOD_MAX] = "";

		if (t->left[rule] == 0)
			continue;
		retention_period(&tm, rule, period);
		if (*period && !strcmp(period, t->latest[rule]))
			continue;
		memcpy(t->latest[rule], period, sizeof(period));
		rules |= 1U << rule;
		t->left[rule]--;
	}
	return rules;
}

static bool retention_tagged(const struct retention_policy *policy,
			     const struct retention_image *image, size_t *ret)
{
	for (size_t i = 0; i < image->n_tags; i++) {
		for (size_t j = 0; j < policy->n_keep_tags; j++) {
			if (!strcmp(image->tags[i], policy->keep_tags[j])) {
				*ret = i;
				return true;
			}
		}
	}
	return false;
}

static bool retention_within(const struct retention_policy *policy,
			     const struct retention_image *newest,
			     const struct retention_image *image)
{
	uint64_t older_ns = newest->time_ns - image->time_ns;

	return policy->keep_within_s > 0 &&
	       older_ns / NS_PER_S + (older_ns % NS_PER_S > 0) <= policy->keep_within_s;
}

/* One group, sorted. Returns how many images stay. */
static size_t retention_group(const struct retention_policy *policy,
			      const struct retention_image *const *group, size_t n,
			      const struct retention_image *images,
			      struct retention_verdict *verdicts)
{
	struct tally tally = { 0 };
	size_t kept = 0;

	memcpy(tally.left, policy->keep, sizeof(tally.left));
	for (size_t i = 0; i < n; i++) {
		struct retention_verdict v = { .rules = tally_count(&tally, group[i]) };

		if (retention_within(policy, group[0], group[i]))
			v.rules |= 1U << RETENTION_WITHIN;
		if (retention_tagged(policy, group[i], &v.tag))
			v.rules |= 1U << RETENTION_TAG;
		kept += v.rules != 0;
		verdicts[group[i] - images] = v;
	}
	return kept;
}

static bool retention_policy_empty(const struct retention_policy *policy)
{
	for (enum retention_rule rule = RETENTION_LAST; rule <= RETENTION_YEARLY; rule++) {
		if (policy->keep[rule] > 0)
			return false;
	}
	return policy->keep_within_s == 0 && policy->n_keep_tags == 0;
}

int retention_apply(const struct retention_policy *policy, const struct retention_image *images,
		    size_t n, struct retention_verdict *ret, struct err *e)
{
	_cleanup_free_ const struct retention_image **sorted =
		calloc(n + 1, sizeof(struct retention_image *));
	_cleanup_free_ struct retention_verdict *verdicts = calloc(n + 1, sizeof(*verdicts));

	if (retention_policy_empty(policy)) {
		return err_set(e, -EINVAL,
			       "nothing was said that is to be kept, so nothing is forgotten: "
			       "say how many images to keep");
	}
	if (!sorted || !verdicts)
		return err_oom(e);
	for (size_t i = 0; i < n; i++)
		sorted[i] = images + i;
	qsort(sorted, n, sizeof(struct retention_image *), retention_compare);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && !strcmp(sorted[i]->group, sorted[end]->group);)
			end++;
		if (retention_group(policy, sorted + i, end - i, images, verdicts) > 0)
			continue;
		return err_set(e, -EINVAL,
			       "no image of %s has a tag that is to be kept, so all would be "
			       "forgotten: keep the last one too, or forget them by name",
			       sorted[i]->group);
	}
	if (n > 0)
		memcpy(ret, verdicts, n * sizeof(*ret));
	return 0;
}

char *retention_reason(const struct retention_image *image, const struct retention_verdict *verdict,
		       enum retention_rule rule, char buf[static RETENTION_REASON_MAX])
{
	const struct tm tm = retention_tm(image);
	char period[PERIOD_MAX];

	retention_period(&tm, rule, period);
	snprintf(buf, RETENTION_REASON_MAX, "%s%s%s", retention_names[rule],
		 *period || rule == RETENTION_TAG ? " " : "",
		 rule == RETENTION_TAG ? image->tags[verdict->tag] : period);
	return buf;
}
