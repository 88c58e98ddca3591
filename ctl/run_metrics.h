/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_metrics - how a periodic capture went, as a file in the text format that node_exporter's textfile collector reads.
 *
 * The file says how the last run ended, and what the last good one did: what a failed run does not know is taken over from
 * the file as it was, so that the age of the last image can be watched. It is replaced in one step, mode 0644.
 *
 * Blocks on small files. Not thread-safe.
 */
#pragma once

#include <stdint.h>

#include "lib/base/err.h"

#define RUN_METRICS_WORD_MAX 256

enum run_metric {
	RUN_METRIC_LAST_RUN,	 /* seconds since 1970 */
	RUN_METRIC_EXIT_CODE,	 /* of the last run */
	RUN_METRIC_LAST_SUCCESS, /* this one and those behind it are of the last good run */
	RUN_METRIC_DURATION,	 /* seconds */
	RUN_METRIC_READ,	 /* bytes */
	RUN_METRIC_NEW,		 /* bytes */
	RUN_METRIC_FREEZE,	 /* seconds */
	RUN_METRICS
};

/* Zero-initialised. Words that are longer are cut. */
struct run_metrics {
	char name[RUN_METRICS_WORD_MAX], host[RUN_METRICS_WORD_MAX], disk[RUN_METRICS_WORD_MAX];
	char increment[RUN_METRICS_WORD_MAX]; /* "": there was no good run yet */
	double values[RUN_METRICS];
};

/*
 * Take over from @path what was written there of the last good run: values from RUN_METRIC_LAST_SUCCESS on, increment, and
 * host and disk where @m has none. A file that is not there, or not ours, changes nothing.
 */
void run_metrics_load(const char *path, struct run_metrics *m);
/* Values of good runs are left out while there was none. */
int run_metrics_save(const char *path, const struct run_metrics *m, struct err *e);
