/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "lib/base/cleanup.h"

#define LOG_LINE_MAX 1024

/* systemd says in the environment which socket stderr was; it may have been redirected since. */
static bool log_to_journal(void)
{
	const char *stream = secure_getenv("JOURNAL_STREAM");
	char mine[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return !strcmp(stream, mine);
}

static bool log_send(int priority, const struct log_fields *f, const char *text)
{
	char message[LOG_LINE_MAX + 8], level[24], id[64], job[48], source[LOG_LINE_MAX];
	struct iovec fields[5];
	int n = 0;

	snprintf(message, sizeof(message), "MESSAGE=%s", text);
	fields[n++] = (struct iovec){ message, strlen(message) };
	snprintf(level, sizeof(level), "PRIORITY=%d", priority);
	fields[n++] = (struct iovec){ level, strlen(level) };
	if (f && f->message_id) {
		snprintf(id, sizeof(id), "MESSAGE_ID=%s", f->message_id);
		fields[n++] = (struct iovec){ id, strlen(id) };
	}
	if (f && f->job) {
		snprintf(job, sizeof(job), "AMBRO_JOB=%" PRIu64, f->job);
		fields[n++] = (struct iovec){ job, strlen(job) };
	}
	if (f && f->source) {
		snprintf(source, sizeof(source), "AMBRO_SOURCE=%s", f->source);
		fields[n++] = (struct iovec){ source, strlen(source) };
	}
	return sd_journal_sendv(fields, n) >= 0;
}

void log_message(int priority, const struct log_fields *fields, const char *format, ...)
{
	char text[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	/* a source or an error may quote anything: one entry is one line */
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	}
	if (log_to_journal() && log_send(priority, fields, text))
		return;
	dprintf(STDERR_FILENO, "ambrod: %s%s\n",
		priority <= LOG_ERR	  ? "error: "
		: priority == LOG_WARNING ? "warning: "
					  : "",
		text);
}
