/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/render.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/text.h"

#define RENDER_NS	       UINT64_C(1000000000)
#define RENDER_REDRAW_NS       (RENDER_NS / 5)
#define RENDER_LINE_NS	       (5 * RENDER_NS)
#define RENDER_COLUMNS_DEFAULT 80u
#define RENDER_COLUMNS_MAX     200u
#define RENDER_WORDS_WIDTH     UINT64_C(48)
#define RENDER_BAR_WIDTH_MIN   8u
#define RENDER_BAR_WIDTH_MAX   40u
#define RENDER_ETA_MAX_S       (UINT64_C(100) * 3600)

char *render_size(uint64_t bytes, char buf[static RENDER_MAX])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* 1023.95 would be printed as 1024.0 */
	while (v >= 1023.95 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, RENDER_MAX, "%.1f %s", v, units[u]);
	return buf;
}

char *render_rate(uint64_t bytes_per_s, char buf[static RENDER_MAX])
{
	size_t n;

	render_size(bytes_per_s, buf);
	n = strlen(buf);
	snprintf(buf + n, RENDER_MAX - n, "/s");
	return buf;
}

char *render_seconds(uint64_t s, char buf[static RENDER_MAX])
{
	if (s < 60) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 " s", s);
	} else if (s < 3600) {
		snprintf(buf, RENDER_MAX, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
	} else {
		snprintf(buf, RENDER_MAX, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600,
			 s / 60 % 60, s % 60);
	}
	return buf;
}

char *render_time(uint64_t realtime_ns, char buf[static RENDER_MAX])
{
	time_t t = (time_t)(realtime_ns / RENDER_NS);
	struct tm tm;

	if (!realtime_ns || !localtime_r(&t, &tm) ||
	    !strftime(buf, RENDER_MAX, "%Y-%m-%d %H:%M:%S %z", &tm))
		snprintf(buf, RENDER_MAX, "-");
	return buf;
}

char *render_count(uint64_t n, const char *one, const char *many, char buf[static RENDER_MAX])
{
	snprintf(buf, RENDER_MAX, "%" PRIu64 " %s", n, n == 1 ? one : many);
	return buf;
}

char *render_safe(const char *text, char *buf, size_t size)
{
	return text_clean(text, true, buf, size);
}

/* ---- progress ----------------------------------------------------------------------------------- */

void render_bar_begin(struct render_bar *b, enum render_bar_mode mode)
{
	*b = (struct render_bar){ .begun_ns = io_now_ns() };
	if (mode == RENDER_BAR_NONE)
		return;
	b->out = stderr;
	b->json = mode == RENDER_BAR_JSON;
	b->terminal = !b->json && isatty(STDERR_FILENO);
}

/* Bytes per second over the samples of the last few seconds. */
static uint64_t render_bar_rate(struct render_bar *b, uint64_t done, uint64_t now)
{
	uint64_t elapsed;

	/* something else is being counted now */
	if (b->n_samples && done < b->samples[b->n_samples - 1].done)
		b->n_samples = 0;
	if (b->n_samples == ARRAY_SIZE(b->samples)) {
		memmove(b->samples, b->samples + 1, sizeof(b->samples) - sizeof(b->samples[0]));
		b->n_samples--;
	}
	b->samples[b->n_samples++] = (struct render_sample){ now, done };
	elapsed = now - b->samples[0].ns;
	if (!elapsed)
		return 0;
	return (uint64_t)((double)(done - b->samples[0].done) * 1e9 / (double)elapsed);
}

static unsigned int render_columns(FILE *out)
{
	struct winsize w;

	if (ioctl(fileno(out), TIOCGWINSZ, &w) < 0 || !w.ws_col)
		return RENDER_COLUMNS_DEFAULT;
	return MIN(w.ws_col, RENDER_COLUMNS_MAX);
}

/* The words behind the bar. */
static void render_bar_words(const struct render_progress *p, uint64_t rate, char *buf, size_t size)
{
	char done[RENDER_MAX], total[RENDER_MAX], speed[RENDER_MAX], eta[RENDER_MAX];
	uint64_t left = p->total > p->done ? p->total - p->done : 0;
	size_t n = 0;

	n += (size_t)snprintf(buf, size, "%s", render_size(p->done, done));
	if (p->total)
		n += (size_t)snprintf(buf + n, size - n, " of %s", render_size(p->total, total));
	if (rate)
		n += (size_t)snprintf(buf + n, size - n, ", %s", render_rate(rate, speed));
	if (rate && left && left / rate < RENDER_ETA_MAX_S) {
		n += (size_t)snprintf(buf + n, size - n, ", ETA %s",
				      render_seconds(left / rate + 1, eta));
	}
	if (p->extra && *p->extra && n < size)
		snprintf(buf + n, size - n, ", %s", p->extra);
}

static unsigned int render_percent(const struct render_progress *p)
{
	return p->total ? (unsigned int)(100.0 * (double)MIN(p->done, p->total) / (double)p->total)
			: 0;
}

/* One line that fits: the bar takes what the words leave, and goes when that is too little. */
static void render_bar_draw(struct render_bar *b, const struct render_progress *p, uint64_t rate)
{
	char words[256], head[48], hashes[RENDER_BAR_WIDTH_MAX + 1];
	unsigned int columns = render_columns(b->out) - 1, width = 0, full;
	size_t used;

	render_bar_words(p, rate, words, sizeof(words));
	if (p->total) {
		snprintf(head, sizeof(head), "%-8.16s %3u%%", p->phase, render_percent(p));
	} else {
		snprintf(head, sizeof(head), "%-8.16s", p->phase);
	}
	/* room for the longest usual words, so that the bar does not change its width all the time */
	used = strlen(head) + MAX(strlen(words), (size_t)RENDER_WORDS_WIDTH) + 4;
	if (p->total && columns >= used + RENDER_BAR_WIDTH_MIN)
		width = (unsigned int)MIN(columns - used, (size_t)RENDER_BAR_WIDTH_MAX);
	if (width) {
		full = width * render_percent(p) / 100;
		memset(hashes, '#', full);
		memset(hashes + full, '.', width - full);
		hashes[width] = '\0';
		fprintf(b->out, "\r\033[K%s [%s] %s", head, hashes, words);
	} else {
		char line[sizeof(head) + sizeof(words)];

		snprintf(line, sizeof(line), "%s %s", head, words);
		fprintf(b->out, "\r\033[K%.*s", (int)columns, line);
	}
	fflush(b->out);
	b->drawn = true;
}

static void render_bar_json(const struct render_bar *b, const struct render_progress *p,
			    uint64_t rate)
{
	uint64_t left = p->total > p->done ? p->total - p->done : 0;
	json_t *o = json_pack("{s:o, s:I, s:I, s:I}", "phase", render_json_string(p->phase), "done",
			      (json_int_t)p->done, "total", (json_int_t)p->total, "rate",
			      (json_int_t)rate);

	if (o && rate && p->total)
		json_object_set_new(o, "eta_s", json_integer((json_int_t)(left / rate)));
	/* progress that cannot be shown stops nothing */
	(void)render_json(o, b->out);
}

void render_bar_update(struct render_bar *b, const struct render_progress *p)
{
	uint64_t now = io_now_ns(), rate, wait;
	bool new_phase = !b->phase[0] || strncmp(b->phase, p->phase, sizeof(b->phase) - 1) != 0;

	if (!b->out)
		return;
	wait = b->terminal || b->json ? RENDER_REDRAW_NS : RENDER_LINE_NS;
	if (!new_phase && now - b->drawn_ns < wait)
		return;
	snprintf(b->phase, sizeof(b->phase), "%s", p->phase);
	rate = render_bar_rate(b, p->done, now);
	if (p->rate)
		rate = p->rate;
	b->drawn_ns = now;
	if (b->json) {
		render_bar_json(b, p, rate);
	} else if (b->terminal) {
		render_bar_draw(b, p, rate);
	} else {
		char words[256];

		render_bar_words(p, rate, words, sizeof(words));
		if (p->total) {
			fprintf(b->out, "%s: %u%%, %s\n", p->phase, render_percent(p), words);
		} else {
			fprintf(b->out, "%s: %s\n", p->phase, words);
		}
	}
}

void render_bar_end(struct render_bar *b)
{
	if (!b->drawn)
		return;
	fputs("\r\033[K", b->out);
	fflush(b->out);
	b->drawn = false;
}

/* ---- tables ------------------------------------------------------------------------------------- */

#define RENDER_CELL_MAX 512

struct render_table {
	size_t n_columns, n_rows;
	bool *right;
	char **headings; /* n_columns */
	char ***rows;	 /* n_rows of n_columns */
};

static void render_row_free(char **cells, size_t n)
{
	for (size_t i = 0; cells && i < n; i++)
		free(cells[i]);
	free(cells);
}

void render_table_free(struct render_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_rows; i++)
		render_row_free(t->rows[i], t->n_columns);
	free(t->rows);
	render_row_free(t->headings, t->n_columns);
	free(t->right);
	free(t);
}

static char **render_row_new(const char *const *cells, size_t n)
{
	char **row = calloc(n, sizeof(*row));

	for (size_t i = 0; row && i < n; i++) {
		char clean[RENDER_CELL_MAX];

		row[i] = strdup(render_safe(cells[i], clean, sizeof(clean)));
		if (!row[i]) {
			render_row_free(row, n);
			return NULL;
		}
	}
	return row;
}

int render_table_new(const char *const *headings, struct render_table **ret)
{
	_cleanup_(render_table_freep) struct render_table *t = calloc(1, sizeof(*t));
	size_t n = 0;

	if (!t)
		return -ENOMEM;
	while (headings[n])
		n++;
	if (!n)
		return -EINVAL;
	t->right = calloc(n, sizeof(*t->right));
	t->headings = render_row_new(headings, n);
	if (!t->right || !t->headings)
		return -ENOMEM;
	t->n_columns = n;
	for (size_t i = 0; i < n; i++) {
		t->right[i] = headings[i][0] == '>';
		if (t->right[i])
			memmove(t->headings[i], t->headings[i] + 1, strlen(t->headings[i]));
	}
	*ret = TAKE_PTR(t);
	return 0;
}

int render_table_add(struct render_table *t, const char *const *cells)
{
	char ***rows = reallocarray(t->rows, t->n_rows + 1, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	t->rows = rows;
	rows[t->n_rows] = render_row_new(cells, t->n_columns);
	if (!rows[t->n_rows])
		return -ENOMEM;
	t->n_rows++;
	return 0;
}

/* Characters, each taken as one column wide. */
static size_t render_width(const char *text)
{
	size_t n = 0;

	for (; *text; text += text_utf8_length(text))
		n++;
	return n;
}

static size_t render_column_width(const struct render_table *t, size_t column)
{
	size_t widest = 0;

	for (size_t i = 0; i < t->n_rows; i++)
		widest = MAX(widest, render_width(t->rows[i][column]));
	/* nothing in it */
	return widest ? MAX(widest, render_width(t->headings[column])) : 0;
}

static void render_row_print(const struct render_table *t, char *const *cells, const size_t *widths,
			     FILE *out)
{
	size_t gap = 0;

	for (size_t i = 0; i < t->n_columns; i++) {
		size_t pad = widths[i] - MIN(widths[i], render_width(cells[i]));

		if (!widths[i])
			continue;
		/* padding is owed until something follows, so that no line ends in spaces */
		if (t->right[i])
			gap += pad;
		if (*cells[i]) {
			fprintf(out, "%*s%s", (int)gap, "", cells[i]);
			gap = 0;
		}
		gap += 2 + (t->right[i] ? 0 : pad);
	}
	fputc('\n', out);
}

void render_table_print(const struct render_table *t, FILE *out)
{
	_cleanup_free_ size_t *widths = calloc(t->n_columns, sizeof(*widths));

	if (!widths)
		return;
	for (size_t i = 0; i < t->n_columns; i++)
		widths[i] = render_column_width(t, i);
	render_row_print(t, t->headings, widths, out);
	for (size_t i = 0; i < t->n_rows; i++)
		render_row_print(t, t->rows[i], widths, out);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

json_t *render_json_string(const char *text)
{
	_cleanup_free_ char *clean = NULL;
	size_t size;

	if (!text)
		return json_null();
	size = strlen(text) + 1;
	clean = malloc(size);
	return clean ? json_string(text_clean(text, false, clean, size)) : NULL;
}

int render_json(json_t *value, FILE *out)
{
	size_t flags = JSON_ENCODE_ANY;
	int r;

	if (!value)
		return -ENOMEM;
	/* stderr gets lines of progress too, and there one object is one line */
	if (out != stderr && isatty(fileno(out)))
		flags |= JSON_INDENT(2);
	r = json_dumpf(value, out, flags);
	json_decref(value);
	if (r < 0 || fputc('\n', out) == EOF || fflush(out) != 0)
		return -EIO;
	return 0;
}
