/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/run_journal.h"

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
#include "lib/base/text.h"

#define JOURNAL_TEXT_MAX 2048
#define JOURNAL_FIELDS	 16

/* The fields of one entry, each "NAME=value". */
struct journal_fields {
	char *text[JOURNAL_FIELDS];
	struct iovec fields[JOURNAL_FIELDS];
	int count;
};

static void journal_add(struct journal_fields *f, const char *name, const char *value)
{
	int n;

	if (!value || !*value)
		return;
	n = asprintf(&f->text[f->count], "%s=%s", name, value);
	/* one that there is no memory for is left out */
	if (n < 0)
		return;
	f->fields[f->count] = (struct iovec){ f->text[f->count], (size_t)n };
	f->count++;
}

static void journal_add_number(struct journal_fields *f, const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	journal_add(f, name, text);
}

static void journal_send(const struct run_entry *entry, const char *text)
{
	struct journal_fields f = { .count = 0 };

	journal_add(&f, "MESSAGE", text);
	journal_add(&f, "MESSAGE_ID", entry->id);
	journal_add_number(&f, "PRIORITY", (uint64_t)entry->priority);
	journal_add(&f, "SYSLOG_IDENTIFIER", "ambroctl");
	journal_add(&f, "AMBRO_CAPTURE", entry->capture);
	journal_add(&f, "AMBRO_REPOSITORY", entry->repository);
	journal_add(&f, "AMBRO_IMAGE", entry->image);
	journal_add(&f, "AMBRO_INCREMENT", entry->increment);
	journal_add(&f, "AMBRO_ERROR", entry->error);
	journal_add_number(&f, "AMBRO_EXIT_CODE", (uint64_t)entry->exit_code);
	if (!strcmp(entry->id, RUN_JOURNAL_ID_CAPTURED)) {
		journal_add_number(&f, "AMBRO_READ_BYTES", entry->read);
		journal_add_number(&f, "AMBRO_NEW_BYTES", entry->new_bytes);
	}
	sd_journal_sendv(f.fields, f.count);
	while (f.count > 0)
		free(f.text[--f.count]);
}

bool run_journal(const struct run_entry *entry, const char *format, ...)
{
	char text[JOURNAL_TEXT_MAX], clean[JOURNAL_TEXT_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	journal_send(entry, text_clean(text, true, clean, sizeof(clean)));
	return io_is_stream(STDERR_FILENO, secure_getenv("JOURNAL_STREAM"));
}
