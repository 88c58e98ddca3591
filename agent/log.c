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
#include "lib/base/io.h"

#define LOG_LINE_MAX 1024

/* The fields of one entry, each "NAME=value". */
struct log_entry {
	char *text[16];
	struct iovec fields[16];
	int count;
};

static void __attribute__((format(printf, 2, 3)))
log_add(struct log_entry *entry, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&entry->text[entry->count], format, ap);
	va_end(ap);
	/* one that there is no memory for is left out */
	if (n < 0)
		return;
	entry->fields[entry->count] = (struct iovec){ entry->text[entry->count], (size_t)n };
	entry->count++;
}

static void log_add_fields(struct log_entry *entry, const struct log_fields *f)
{
	if (f->message_id)
		log_add(entry, "MESSAGE_ID=%s", f->message_id);
	if (f->job)
		log_add(entry, "AMBRO_JOB=%" PRIu64, f->job);
	if (f->source)
		log_add(entry, "AMBRO_SOURCE=%s", f->source);
	if (f->strategy && *f->strategy)
		log_add(entry, "AMBRO_STRATEGY=%s", f->strategy);
	if (f->hook)
		log_add(entry, "AMBRO_HOOK=%s", f->hook);
	if (f->error)
		log_add(entry, "AMBRO_ERROR=%s", f->error);
	if (!f->ended)
		return;
	log_add(entry, "AMBRO_BYTES_READ=%" PRIu64, f->read);
	log_add(entry, "AMBRO_BYTES_WRITTEN=%" PRIu64, f->written);
	log_add(entry, "AMBRO_FREEZE_USEC=%" PRIu64, f->freeze_us);
	log_add(entry, "AMBRO_DURATION_MSEC=%" PRIu64, f->duration_ms);
}

static bool log_send(int priority, const struct log_fields *f, const char *text)
{
	struct log_entry entry = { .count = 0 };
	bool sent;

	log_add(&entry, "MESSAGE=%s", text);
	log_add(&entry, "PRIORITY=%d", priority);
	if (f)
		log_add_fields(&entry, f);
	sent = entry.count && sd_journal_sendv(entry.fields, entry.count) >= 0;
	while (entry.count > 0)
		free(entry.text[--entry.count]);
	return sent;
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
	if (io_is_stream(STDERR_FILENO, secure_getenv("JOURNAL_STREAM")) &&
	    log_send(priority, fields, text))
		return;
	dprintf(STDERR_FILENO, "ambrod: %s%s\n",
		priority <= LOG_ERR	  ? "error: "
		: priority == LOG_WARNING ? "warning: "
					  : "",
		text);
}
