/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log - what the daemon tells its administrator: journal entries with fields, or plain lines on stderr.
 *
 * Thread-safe. Only agent/main.c, manager, control, and what has nobody to return an error to (snapshot_cow, hook_keeper, tracker) log.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

/* MESSAGE_ID= of what scripts may look for (journalctl MESSAGE_ID=…). Never change one. */
#define LOG_ID_JOB_STARTED  "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b01"
#define LOG_ID_JOB_DONE	    "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b02"
#define LOG_ID_JOB_FAILED   "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b03"
#define LOG_ID_JOB_CANCELED "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b04"
#define LOG_ID_DENIED	    "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b05"
#define LOG_ID_HOOK_FAILED  "6f0cbb2a9e4d4c0ea2f1c40f6d5a7b06"

struct log_fields {
	const char *message_id; /* or NULL */
	uint64_t job;		/* AMBRO_JOB=, 0: none */
	const char *source;	/* AMBRO_SOURCE=, or NULL */
	const char *strategy;	/* AMBRO_STRATEGY=, or NULL */
	const char *hook;	/* AMBRO_HOOK=, or NULL */
	/* of an ended job: AMBRO_BYTES_READ=, AMBRO_BYTES_WRITTEN=, AMBRO_FREEZE_USEC=, AMBRO_DURATION_MSEC= */
	bool ended;
	uint64_t read, written, freeze_us, duration_ms;
	const char *error; /* AMBRO_ERROR=, or NULL */
};

/* @fields may be NULL. */
void log_message(int priority, const struct log_fields *fields, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...)	 log_message(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, NULL, __VA_ARGS__)
#define log_info(...)	 log_message(LOG_INFO, NULL, __VA_ARGS__)
