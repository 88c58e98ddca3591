/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file_unsealer - an image that is read front to back, from a file or a pipe, and decrypted if it is encrypted.
 *
 * A thread opens segment after segment and writes their plain bytes into a pipe. A pipe whose image is not encrypted is copied
 * as it is: what was read to tell cannot be put back. A file that is not encrypted needs no thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/key_source.h"
#include "lib/base/cancel.h"
#include "lib/base/err.h"
#include "lib/repo/sealed_head.h"

struct file_unsealer {
	int fd; /* to read the image from */
	/* the rest is the thread's, if there is one */
	int from, out;
	struct cancel *cancel;
	struct sealed_head *head; /* NULL: not encrypted */
	uint8_t *plain;		  /* room for a segment, while the thread runs */
	uint8_t start[SEALED_START];
	size_t start_len;
	pthread_t thread;
	bool running;
	struct err err;
};

/*
 * @from (borrowed, as @cancel, which may be NULL) is the image @what, at its beginning. Unlocks it by @keys. When what is read
 * is not wanted any more, @cancel is raised. file_unsealer_done() after either.
 */
int file_unsealer_begin(struct file_unsealer *u, int from, const char *what,
			const struct key_source *keys, struct cancel *cancel, struct err *e);
/* All of ->fd was read: was it whole? What is read before may end anywhere. */
int file_unsealer_finish(struct file_unsealer *u, struct err *e);
/* Reading has failed: is that because there was no more? Then @e tells why. Ends it. */
bool file_unsealer_failed(struct file_unsealer *u, struct err *e);
void file_unsealer_done(struct file_unsealer *u);
