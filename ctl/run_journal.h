/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_journal - how a periodic capture ended, as an entry of the journal with fields of its own, so that
 * `journalctl AMBRO_IMAGE=…` finds it. docs/OPERATING.md lists fields and ids.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* MESSAGE_ID= of what scripts may look for. Never change one. The agent's are in agent/log.h. */
#define RUN_JOURNAL_ID_CAPTURED "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b21"
#define RUN_JOURNAL_ID_FAILED	"6f0cbb2a9e4d4c0ea2f1c40f6d5a7b22"
#define RUN_JOURNAL_ID_TENDED	"6f0cbb2a9e4d4c0ea2f1c40f6d5a7b23"
#define RUN_JOURNAL_ID_UNTENDED "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b24"

struct run_entry {
	const char *id; /* one of the above */
	int priority;	/* syslog's */
	/* NULL or "": the field is left out */
	const char *capture, *repository, *image, *increment, *error;
	int exit_code;
	/* of a capture */
	uint64_t read, new_bytes;
};

/*
 * Send it. Does nothing where there is no journal. Returns whether our stderr is the journal, too, so that the same words
 * need not go there.
 */
bool run_journal(const struct run_entry *entry, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
