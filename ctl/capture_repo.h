/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture_repo - a capture whose image goes into a repository: its stream is read from a pipe, and the agent's questions
 * about the parent are answered, each in a thread of its own.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include <systemd/sd-bus.h>

#include "ctl/capture_state.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/ingest.h"
#include "lib/repo/repo_image.h"

/* What all disks of one capture share. */
struct capture_repo {
	struct repo *repo;
	int fd;			   /* of its directory, once `repo` is there */
	struct repo_images images; /* once they are `listed`, because a disk needs them */
	bool listed;
	const char *host;	 /* owned: the name under which images are kept */
	const char *const *tags; /* borrowed */
	bool full;		 /* no parent: read and send everything */
	const char *state_dir;	 /* borrowed; as capture_state_open() */
};

/* The repository of --repo, unlocked, its index loaded. capture_repo_done() after either. */
int capture_repo_open(struct capture_repo *r, struct err *e);
void capture_repo_done(struct capture_repo *r);

/* One disk's way into it. */
struct capture_feed {
	const struct capture_repo *owner;
	char *disk;			 /* the name under which its images are kept */
	struct capture_state state;	 /* what is known of its last image */
	const struct repo_image *parent; /* NULL: none */
	int stream_in, stream_out;	 /* stream_out: the agent's */
	int parent_in, parent_out;	 /* parent_out: the agent's; -EBADF: no parent */
	struct cancel cancel;
	pthread_t ingest_thread, parent_thread;
	bool ingesting, serving;
	/* the gate before the commit */
	pthread_mutex_t lock;
	pthread_cond_t decided;
	int decision; /* 0: not yet, 1: commit, -1: do not */
	/* once the thread has ended */
	int result;
	struct err err, parent_err;
	struct repo_image *image;
	struct ingest_result numbers;
};

/*
 * Begin: descriptors for the agent are in stream_out and parent_out. @disk: the name to keep its images under, NULL: as
 * the agent calls the disk of @source (asked on @bus). Signals must be blocked: the threads inherit it.
 */
int capture_feed_begin(struct capture_feed *f, struct capture_repo *r, sd_bus *bus,
		       const char *source, const char *disk, struct err *e);
/* The agent has its descriptors: ours are closed, so that their end is seen. */
void capture_feed_handed_over(struct capture_feed *f);
/* All captures have ended well: commit, and wait until it is done. */
int capture_feed_commit(struct capture_feed *f, struct err *e);
/* Did it fail on its own, so that the agent's "broken pipe" is not the reason? Then @e tells why. */
bool capture_feed_failed(struct capture_feed *f, struct err *e);
/* Ends what still runs; nothing is committed then. Accepts a zeroed one with owner NULL. */
void capture_feed_done(struct capture_feed *f);
