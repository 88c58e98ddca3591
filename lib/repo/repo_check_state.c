/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of repo_check.h: a file of the caller's, in which packs that were found good are noted.
 *
 *	ambrotype check 1 <repository> <part>/<parts> data|names
 *	<pack>
 *	…
 *
 * The first line, the head, says of which check it is: part from 0, in four digits; "names" when packs were only compared with
 * their names, because the keys allow no more. Then a line for each pack.
 *
 * S1. A file that is not such a state is refused and left as it is: it has to be a regular file, and empty, or begin like one.
 * S2. What is noted was found by the check that the head names. The head of another one is written only when the file was
 *     emptied; so whoever is killed leaves an empty file, or the beginning of a head (the next one begins anew), or a head and
 *     what is true of it. Half a line at the end is cut off before more is written.
 * S3. At the end of a check nothing is left that the next one would take for read. The file is emptied, and only then removed.
 *     One that goes from part to part (rotate) is cut to its head, over which that of the next part is written: it has the
 *     same length, so who is killed meanwhile reads this part once more, and loses no other.
 * S4. One check at a time writes to it: it is locked. (A file system without locks is not refused.)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/repo/repo_check_private.h"

#define STATE_WORDS "ambrotype check 1 "
#define STATE_LINE  (2 * REPO_NAME_HASH + 1)
#define HEAD_MAX    128

static int state_failed(const struct check *c, int r, struct err *e)
{
	return err_set_errno(e, r, "cannot write %s", c->settings->state);
}

static size_t state_head(const struct check *c, unsigned int part, char buf[HEAD_MAX])
{
	char id[2 * REPO_ID_SIZE + 1];

	return (size_t)snprintf(buf, HEAD_MAX, STATE_WORDS "%s %04u/%04u %s\n",
				hex_encode(c->repo->format.id, REPO_ID_SIZE, id), part,
				c->settings->parts, check_can_open(c) ? "data" : "names");
}

/* Is it of this check? Then its part is that of the check. */
static bool state_is_ours(struct check *c, const char *begin)
{
	const unsigned int first = c->settings->rotate ? 0 : c->part;
	const unsigned int last = c->settings->rotate ? c->settings->parts - 1 : c->part;
	char head[HEAD_MAX];

	for (unsigned int part = first; part <= last; part++) {
		if (strncmp(begin, head, state_head(c, part, head)) == 0) {
			c->part = part;
			return true;
		}
	}
	return false;
}

int check_state_open(struct check *c, struct err *e)
{
	const struct repo_check_settings *s = c->settings;
	char begin[HEAD_MAX] = "";
	struct stat st;
	ssize_t n;

	c->part = s->parts ? s->part % s->parts : 0;
	if (!s->state || !s->parts)
		return 0;
	/* what turns out to be a pipe must not be waited for */
	c->state = open(s->state, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	if (c->state < 0)
		return state_failed(c, -errno, e);
	if (fstat(c->state, &st) < 0)
		return state_failed(c, -errno, e);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "%s is not a regular file", s->state);
	if (flock(c->state, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(e, -EBUSY, "%s: another check is at work with it", s->state);
	n = io_pread_some(c->state, begin, sizeof(begin) - 1, 0);
	if (n < 0)
		return err_set_errno(e, (int)n, "cannot read %s", s->state);
	if (memcmp(begin, STATE_WORDS, MIN((size_t)n, strlen(STATE_WORDS))) != 0) {
		return err_set(e, -EEXIST,
			       "%s is not the state of a check, and is left as it is: give the "
			       "name of a file that is not there",
			       s->state);
	}
	c->resumed = state_is_ours(c, begin);
	return 0;
}

/* Take over what is noted behind the head; where it ends. */
static uint64_t state_read(struct check *c, uint64_t at)
{
	char line[STATE_LINE];

	/* the last line may be half a one */
	while (io_pread_all(c->state, line, sizeof(line), at) == 0) {
		uint8_t hash[REPO_NAME_HASH];
		struct check_pack *p;

		if (line[STATE_LINE - 1] != '\n')
			break;
		line[STATE_LINE - 1] = '\0';
		if (hex_decode(line, hash, sizeof(hash)) < 0)
			break;
		at += sizeof(line);
		p = check_pack_find(c, hash);
		if (p && p->chosen) {
			p->chosen = false;
			c->result->packs_skipped++;
		}
	}
	return at;
}

int check_state_take(struct check *c, struct err *e)
{
	char head[HEAD_MAX];
	const size_t len = state_head(c, c->part, head);
	uint64_t end = len;
	int r = 0;

	if (c->state < 0)
		return 0;
	if (c->resumed) {
		end = state_read(c, len);
		r = ftruncate(c->state, (off_t)end) < 0 ? -errno : 0;
	} else {
		r = ftruncate(c->state, 0) < 0 ? -errno : 0;
		if (r >= 0)
			r = io_pwrite_all(c->state, head, len, 0);
	}
	if (r >= 0 && lseek(c->state, (off_t)end, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? state_failed(c, r, e) : 0;
}

void check_state_note(struct check *c, const struct check_pack *p)
{
	char line[STATE_LINE + 1];

	if (c->state < 0)
		return;
	hex_encode(p->hash, sizeof(p->hash), line);
	line[STATE_LINE - 1] = '\n';
	pthread_mutex_lock(&c->lock);
	/* behind half a line nothing would be found */
	if (!c->state_broken && io_write_all(c->state, line, STATE_LINE) < 0)
		c->state_broken = true;
	pthread_mutex_unlock(&c->lock);
}

int check_state_end(struct check *c, struct err *e)
{
	const struct repo_check_settings *s = c->settings;
	char head[HEAD_MAX];
	size_t len = 0;
	int r = 0;

	if (c->state < 0)
		return 0;
	if (s->rotate)
		len = state_head(c, (c->part + 1) % s->parts, head);
	if (ftruncate(c->state, (off_t)len) < 0)
		r = -errno;
	if (r >= 0 && len)
		r = io_pwrite_all(c->state, head, len, 0);
	/* one that cannot be removed is empty, which is as good */
	if (r >= 0 && !len)
		unlink(s->state);
	return r < 0 ? state_failed(c, r, e) : 0;
}

/* ---- the part of a day ----------------------------------------------------------------------------- */

/* splitmix64: whatever @x counts, the bits look like chance. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

/* Each @parts days are dealt like cards: a shuffle (Fisher and Yates) that follows from their number. */
unsigned int repo_check_part_of_day(uint64_t day, unsigned int parts)
{
	unsigned int cards[REPO_CHECK_PARTS_OF_DAYS_MAX];
	uint64_t chance = mix(day / parts);

	for (unsigned int i = 0; i < parts; i++)
		cards[i] = i;
	for (unsigned int i = parts - 1; i > 0; i--) {
		const unsigned int other = (unsigned int)(chance % (i + 1));
		const unsigned int card = cards[other];

		cards[other] = cards[i];
		cards[i] = card;
		chance = mix(chance);
	}
	return cards[day % parts];
}
