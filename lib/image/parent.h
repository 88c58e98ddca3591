/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parent - the bytes between an agent that makes an increment and the client that has its parent.
 *
 * The client passes the agent one end of a Unix stream socket pair with its call. On it the agent asks, the client
 * answers, in order, one answer for each request, until the agent closes its end. The client need not answer quickly, and
 * the agent need not ask anything. Numbers are little-endian.
 *
 *	MANIFEST  region and number are 0	the parent's manifest, JSON, as it is stored
 *	PAGE	  page `number` of `region`	the body of that page of level 0 (docs/FORMAT.md section 3); where the tree has none
 *						because all is free or zero, one that is made up: states only
 *	CHUNK	  chunk `number` of `region`	its plain bytes, exactly as many as there are in that place
 *
 * A status other than 0 is a positive errno, and nothing follows: ENOENT: there is no such thing, or the chunk holds no
 * data; EACCES: the client cannot read contents (it has no key). With EACCES, ENOENT or any other for a CHUNK the
 * agent goes on without it; for a MANIFEST or a PAGE the capture fails.
 */
#pragma once

#include <assert.h>
#include <stdint.h>

#include "lib/base/le.h"
#include "lib/image/format.h"

#define PARENT_MAGIC "AMBP"

enum parent_kind {
	PARENT_MANIFEST = 1,
	PARENT_PAGE = 2,
	PARENT_CHUNK = 3,
};

struct parent_request {
	uint8_t magic[4]; /* PARENT_MAGIC */
	le32_t kind;	  /* enum parent_kind */
	le32_t region;
	le32_t reserved; /* 0 */
	le64_t number;
};
static_assert(sizeof(struct parent_request) == 24, "on the wire");

struct parent_answer {
	uint8_t magic[4]; /* PARENT_MAGIC */
	le32_t status;	  /* 0, or a positive errno */
	le64_t length;	  /* bytes that follow; 0 with a status */
};
static_assert(sizeof(struct parent_answer) == 16, "on the wire");

/* Most bytes of an answer: MANIFEST; PAGE is bounded by AMBRO_PAGE_MAX, CHUNK by the chunk size. */
#define PARENT_MANIFEST_MAX (16u << 20)
#define PARENT_CHUNK_MAX    ((size_t)1 << AMBRO_CHUNK_SHIFT_MAX)
