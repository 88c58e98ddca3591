/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture_status - what a capture is asked for, and what it tells while it runs.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum capture_strategy {
	CAPTURE_AUTO,
	CAPTURE_PRECOPY,
	CAPTURE_OFFLINE,
	CAPTURE_STILL,
	CAPTURE_DM,
	CAPTURE_KMOD,
};

enum capture_phase {
	PHASE_PREPARE, /* opening, tracking, maps */
	PHASE_READ,    /* first pass */
	PHASE_REREAD,  /* precopy passes */
	PHASE_FREEZE,  /* frozen */
	PHASE_WRITE,   /* thawed, the last chunks and the manifest are on their way */
	PHASE_DONE,
};

/* See increment.h. */
enum increment_kind {
	INCREMENT_FULL,
	INCREMENT_COMPARED,
	INCREMENT_TRACKED,
};

/* When a hook fails or hangs before a freeze (hooks.h). The strictest first. */
enum hook_policy {
	HOOKS_ABORT,	/* the capture fails, before anything is frozen */
	HOOKS_CONTINUE, /* it is told, and goes on */
	HOOKS_OFF,	/* none is run */
};

struct capture_request {
	char *source; /* see disk_open(); NULL: the disk that holds / */
	enum capture_strategy strategy;
	int level; /* zstd's */
	unsigned int
		max_freeze_ms; /* most time a file system may stay frozen; also the guardian's deadline */
	unsigned int threads; /* 0: one per CPU */
	bool ignore_read_errors;
	char *cow;	       /* where a snapshot's COW store shall be (cow.h); NULL: chosen */
	uint64_t cow_size;     /* bytes; 0: chosen */
	bool overflow_precopy; /* when that is full, go on as precopy instead of failing */
	char *together;	       /* captures of this name show one instant; NULL: this one alone */
	unsigned int together_count; /* so many are they */
	unsigned int chunk_shift;    /* log2 of the chunk size; 0: chosen */
	int destination_fd; /* borrowed: where the client will write the image; negative: it did not say */
	int parent_fd; /* borrowed: see parent.h; negative: none */
	enum hook_policy hooks;
	unsigned int hook_timeout_ms;	  /* of each call of a hook; so long they are held, too */
	uint64_t limit_read, limit_write; /* bytes per second; 0: none */
	bool full_speed; /* reads and compression compete with the server's own on equal terms */
	uint64_t job;	 /* its number, for the log and for hooks; 0: none */
	int output_fd;	 /* borrowed */
};
#define CAPTURE_MAX_FREEZE_MS_DEFAULT	2000u
#define CAPTURE_HOOK_TIMEOUT_MS_DEFAULT 30000u

#define CAPTURE_INCREMENT_REASON_MAX 128u

/* Written by the capture, read by anyone at any time. Bytes unless the name says otherwise. */
struct capture_status {
	atomic_int phase;	      /* enum capture_phase */
	atomic_uint_fast64_t total;   /* to read in the first pass; 0 until known */
	atomic_uint_fast64_t done;    /* read of it */
	atomic_uint_fast64_t read;    /* read in all passes */
	atomic_uint_fast64_t written; /* to the output */
	atomic_uint_fast64_t dirty;   /* known to have been written and not re-read yet */
	atomic_uint passes;
	atomic_uint_fast64_t freeze_us; /* longest time a file system was frozen */
	atomic_uint_fast64_t disk_size;
	atomic_uint_fast64_t bad;		     /* bytes that could not be read */
	atomic_uint_fast64_t store_used, store_size; /* of a snapshot's COW store; 0: none */
	atomic_uint hooks, hooks_failed;	     /* begun; failed, refused or killed */
	atomic_int strategy;			     /* enum capture_strategy, once chosen */
	char reason[512]; /* why it was this one; to be read once `reasoned` is set */
	atomic_bool reasoned;
	/* 1 + enum increment_kind, 0 until chosen; and then, why it is not a better one */
	atomic_int increment;
	char increment_reason[CAPTURE_INCREMENT_REASON_MAX];
};

const char *capture_phase_name(enum capture_phase p); /* "prepare", "read", … */
const char *capture_strategy_name(
	enum capture_strategy s); /* "auto", "precopy", "offline", "still", "dm", "kmod" */
const char *capture_increment_name(enum increment_kind k); /* "full", "compared", "tracked" */
/* Returns 0 or -EINVAL. */
int capture_strategy_parse(const char *text, enum capture_strategy *ret);
int hook_policy_parse(const char *text, enum hook_policy *ret); /* "abort", "continue", "off" */
