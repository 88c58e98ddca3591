/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client answers when it is asked for the parent of an increment. Input: with an even first byte a good manifest comes
 * first; then what follows on the line, to its end.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/parent.h"
#include "lib/image/parent.h"
#include "tests/fuzz/fuzz.h"

#define CHUNK  (UINT64_C(1) << AMBRO_CHUNK_SHIFT_MIN)
#define CHUNKS 5000u

static char *good_manifest(size_t *ret_len)
{
	struct manifest *m = NULL;
	char *json = NULL;

	FUZZ_CHECK(manifest_new(1, &m) == 0);
	m->chunk_size = CHUNK;
	m->disk_size = m->regions[0].length = CHUNKS * CHUNK;
	m->logical_sector = 512;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].depth = 2;
	FUZZ_CHECK(manifest_to_json(m, &json, ret_len, NULL) == 0);
	manifest_free(m);
	return json;
}

static void give(int fd, const void *data, size_t len)
{
	FUZZ_CHECK(!len || send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void give_manifest(int fd)
{
	static char *json;
	static size_t len;
	struct parent_answer a = { .magic = { 'A', 'M', 'B', 'P' } };

	if (!json)
		json = good_manifest(&len);
	a.length = le64(len);
	give(fd, &a, sizeof(a));
	give(fd, json, len);
}

static void ask(struct parent *p)
{
	uint8_t *plain = malloc(CHUNK);
	enum chunk_state state;
	struct chunk_id id;
	struct err e = { 0 };
	int r = 0;

	FUZZ_CHECK(plain);
	for (uint64_t i = 0; i < CHUNKS && r >= 0; i += 99) {
		r = parent_chunk(p, 0, i, &state, &id, &e);
		FUZZ_CHECK(r < 0 || state <= CHUNK_BAD);
	}
	if (r >= 0)
		r = parent_content(p, 0, 7, plain, &e);
	FUZZ_CHECK(r >= 0 || r == -EACCES || *e.text);
	free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parent *p = NULL;
	struct err e = { 0 };
	int line[2], room = 1 << 20, r;

	/* all of it has to fit on the line: nobody reads at the same time */
	if (size < 1 || size > 150000)
		return 0;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) == 0);
	FUZZ_CHECK(setsockopt(line[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	if (!(data[0] & 1))
		give_manifest(line[0]);
	give(line[0], data + 1, size - 1);
	shutdown(line[0], SHUT_WR);
	r = parent_open(line[1], NULL, &p, &e);
	FUZZ_CHECK(r >= 0 || *e.text);
	if (r >= 0 && parent_manifest(p)->chunk_size == CHUNK &&
	    parent_manifest(p)->disk_size == CHUNKS * CHUNK)
		ask(p);
	parent_free(p);
	close(line[0]);
	close(line[1]);
	return 0;
}
