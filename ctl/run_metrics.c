/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/run_metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/newfile.h"

#define METRIC_PREFIX	 "ambro_capture_"
#define METRIC_INCREMENT METRIC_PREFIX "increment"
#define METRIC_LINE_MAX	 2048
/* Each byte may be escaped. */
#define METRIC_LABEL_MAX (2 * RUN_METRICS_WORD_MAX)

static const struct metric_row {
	const char *name, *help;
} metric_rows[RUN_METRICS] = {
	[RUN_METRIC_LAST_RUN] = { "last_run_timestamp_seconds", "When the last run ended." },
	[RUN_METRIC_EXIT_CODE] = { "exit_code", "Exit code of the last run, 0 for success." },
	[RUN_METRIC_LAST_SUCCESS] = { "last_success_timestamp_seconds",
				      "When the last good run ended." },
	[RUN_METRIC_DURATION] = { "duration_seconds", "How long the last good capture took." },
	[RUN_METRIC_READ] = { "read_bytes", "Bytes of the disk that it read." },
	[RUN_METRIC_NEW] = { "new_bytes", "Bytes that it added to the repository." },
	[RUN_METRIC_FREEZE] = { "freeze_seconds",
				"Longest time that a file system stood still for it." },
};

static const char *const metric_kinds[] = { "full", "compared", "tracked" };

/* ---- labels ------------------------------------------------------------------------------------- */

/* @text as a label's value; returns @buf. */
static char *metric_escape(const char *text, char buf[static METRIC_LABEL_MAX])
{
	char *to = buf;

	for (; *text; text++) {
		if (*text == '\\' || *text == '"' || *text == '\n')
			*to++ = '\\';
		*to++ = *text;
		if (*text == '\n')
			to[-1] = 'n';
	}
	*to = '\0';
	return buf;
}

/* The value of the label @key in @labels ("a=\"x\",b=\"y\"…"), unescaped; false: there is none. */
static bool metric_label(const char *labels, const char *key, char ret[static RUN_METRICS_WORD_MAX])
{
	char begin[64];
	const char *from;
	size_t n = 0;

	snprintf(begin, sizeof(begin), "%s=\"", key);
	from = strstr(labels, begin);
	if (!from || (from != labels && from[-1] != ','))
		return false;
	for (from += strlen(begin); *from != '"'; from++) {
		char c = *from;

		if (c == '\\') {
			from++;
			c = *from;
			if (c == 'n')
				c = '\n';
		}
		if (!c || n == RUN_METRICS_WORD_MAX - 1)
			return false;
		ret[n++] = c;
	}
	ret[n] = '\0';
	return true;
}

/* ---- loading ------------------------------------------------------------------------------------ */

static void metrics_take_labels(struct run_metrics *m, const char *labels)
{
	char word[RUN_METRICS_WORD_MAX];

	if (!*m->host && metric_label(labels, "host", word))
		memcpy(m->host, word, sizeof(word));
	if (!*m->disk && metric_label(labels, "disk", word))
		memcpy(m->disk, word, sizeof(word));
}

/* NAME{LABELS} VALUE */
static void metrics_take_line(struct run_metrics *m, char *line)
{
	char *labels = strchr(line, '{'), *end = strrchr(line, '}');
	char kind[RUN_METRICS_WORD_MAX];
	double value;

	if (*line == '#' || !labels || !end || end < labels)
		return;
	*labels++ = '\0';
	*end = '\0';
	value = strtod(end + 1, NULL);
	if (!strcmp(line, METRIC_INCREMENT) && value == 1 && metric_label(labels, "kind", kind))
		memcpy(m->increment, kind, sizeof(kind));
	if (strncmp(line, METRIC_PREFIX, strlen(METRIC_PREFIX)) != 0)
		return;
	metrics_take_labels(m, labels);
	for (size_t i = RUN_METRIC_LAST_SUCCESS; i < RUN_METRICS; i++) {
		if (!strcmp(line + strlen(METRIC_PREFIX), metric_rows[i].name))
			m->values[i] = value;
	}
}

void run_metrics_load(const char *path, struct run_metrics *m)
{
	_cleanup_file_ FILE *f = fopen(path, "re");
	char line[METRIC_LINE_MAX];

	while (f && fgets(line, sizeof(line), f))
		metrics_take_line(m, line);
}

/* ---- saving ------------------------------------------------------------------------------------- */

static void metrics_print_head(FILE *f, const char *name, const char *help)
{
	fprintf(f, "# HELP " METRIC_PREFIX "%s %s\n# TYPE " METRIC_PREFIX "%s gauge\n", name, help,
		name);
}

static void metrics_print(FILE *f, const struct run_metrics *m)
{
	char name[METRIC_LABEL_MAX], host[METRIC_LABEL_MAX], disk[METRIC_LABEL_MAX];
	const size_t n = *m->increment ? RUN_METRICS : RUN_METRIC_LAST_SUCCESS;

	metric_escape(m->name, name);
	metric_escape(m->host, host);
	metric_escape(m->disk, disk);
	for (size_t i = 0; i < n; i++) {
		metrics_print_head(f, metric_rows[i].name, metric_rows[i].help);
		fprintf(f, METRIC_PREFIX "%s{name=\"%s\",host=\"%s\",disk=\"%s\"} %.*f\n",
			metric_rows[i].name, name, host, disk,
			i == RUN_METRIC_DURATION || i == RUN_METRIC_FREEZE ? 6 : 0, m->values[i]);
	}
	if (!*m->increment)
		return;
	metrics_print_head(f, "increment", "1 for how the last good capture was done.");
	for (size_t i = 0; i < ARRAY_SIZE(metric_kinds); i++) {
		fprintf(f,
			METRIC_INCREMENT "{name=\"%s\",host=\"%s\",disk=\"%s\",kind=\"%s\"} %d\n",
			name, host, disk, metric_kinds[i], !strcmp(m->increment, metric_kinds[i]));
	}
}

int run_metrics_save(const char *path, const struct run_metrics *m, struct err *e)
{
	_cleanup_(newfile_freep) struct newfile *file = NULL;
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return err_oom(e);
	metrics_print(f, m);
	if (fclose(f) != 0)
		return err_oom(e);
	r = newfile_open(path, 0644, true, &file, e);
	if (r < 0)
		return r;
	r = io_write_all(file->fd, text, len);
	/* whatever the umask: who collects it is somebody else */
	if (r == 0 && fchmod(file->fd, 0644) < 0)
		r = -errno;
	return r < 0 ? err_set_errno(e, r, "cannot write %s", path) : newfile_publish(file, e);
}
