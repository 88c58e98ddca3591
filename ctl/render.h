/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * render - for eyes: sizes, rates, times, a progress bar, tables; and for programs: JSON.
 *
 * Text that comes from outside (labels, paths, names in an image, errors) may hold anything; what is printed
 * through here has control characters and broken UTF-8 replaced, so that it cannot steer a terminal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/* Room for any of the following; they return @buf. */
#define RENDER_MAX 48
char *render_size(uint64_t bytes, char buf[static RENDER_MAX]);	      /* "931.5 GiB", "512 B" */
char *render_rate(uint64_t bytes_per_s, char buf[static RENDER_MAX]); /* "87.3 MiB/s" */
char *render_seconds(uint64_t s, char buf[static RENDER_MAX]); /* "42 s", "3:07", "1:02:03" */
/* Local time "2024-05-01 13:37:00 +0200" of CLOCK_REALTIME nanoseconds; "-" for 0. */
char *render_time(uint64_t realtime_ns, char buf[static RENDER_MAX]);
/* "1 image", "2 images". */
char *render_count(uint64_t n, const char *one, const char *many, char buf[static RENDER_MAX]);

/* @text with what a terminal should not get replaced; cut at @size - 1 bytes. NULL gives "". Returns @buf. */
char *render_safe(const char *text, char *buf, size_t size);

/* ---- progress ----------------------------------------------------------------------------------- */

/*
 * One line on stderr. On a terminal it is redrawn in place, at most 5 times a second, as wide as the
 * terminal is; elsewhere a plain line every 5 seconds. Zero-initialise by render_bar_begin(). Not thread-safe.
 */
struct render_bar {
	FILE *out;
	bool terminal;
	bool json;	   /* lines of JSON instead */
	bool drawn;	   /* a line stands on the terminal */
	uint64_t begun_ns; /* CLOCK_MONOTONIC */
	uint64_t drawn_ns;
	char phase[24]; /* that was drawn last */
	/* for a rate of our own: a window of samples */
	struct render_sample {
		uint64_t ns, done;
	} samples[16];
	unsigned int n_samples;
};

struct render_progress {
	const char *phase;    /* "read", "verify", "write", …; a change of it is drawn at once */
	uint64_t done, total; /* bytes; total 0: unknown, no percentage */
	uint64_t rate;	      /* bytes per second; 0: the bar works it out from @done */
	const char *extra;    /* shown behind, "12.0 MiB dirty"; NULL: nothing */
};

enum render_bar_mode {
	RENDER_BAR_AUTO, /* a bar on a terminal, plain lines otherwise */
	RENDER_BAR_JSON, /* one object per line: phase, done, total, rate, eta_s */
	RENDER_BAR_NONE, /* silent */
};

void render_bar_begin(struct render_bar *b, enum render_bar_mode mode);
/* Call it as often as you like. */
void render_bar_update(struct render_bar *b, const struct render_progress *p);
/* Take the line away; before any other output, and at the end. May be called more than once. */
void render_bar_end(struct render_bar *b);

/* ---- tables ------------------------------------------------------------------------------------- */

struct render_table;

/* @headings: NULL-terminated; a leading '>' makes the column right-aligned. Strings are copied. */
int render_table_new(const char *const *headings, struct render_table **ret);
/* As many cells as there are headings; NULL is an empty cell. Copied. Returns 0 or -ENOMEM. */
int render_table_add(struct render_table *t, const char *const *cells);
/* Columns as wide as needed, two spaces between; columns that are empty in all rows are left out. */
void render_table_print(const struct render_table *t, FILE *out);
void render_table_free(struct render_table *t);
static inline void render_table_freep(struct render_table **t)
{
	render_table_free(*t);
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

/* A JSON string of @text, bytes that are not UTF-8 replaced; JSON null for NULL. New reference, NULL: no memory. */
json_t *render_json_string(const char *text);
/*
 * Print @value (reference is taken; NULL, as jansson gives when out of memory, is an error) and a newline, indented
 * when @out is a terminal, one line otherwise; flush. Returns 0 or a negative errno.
 */
int render_json(json_t *value, FILE *out);
