/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker_stamp - T5 of tracker.h.
 *
 * Stamps lie in the pins like the marks do, so whoever takes the memory back takes both back, to the same moment. They
 * are made when an image is complete and not when its era begins: a memory that was saved between the two knows the era,
 * but not what the image has of the time after.
 *
 * Two may make one at the same time: each has a place of its own. Who looks meanwhile finds a torn one, which is none.
 * Who dies before it is whole has told it to nobody.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/tracker.h"
#include "agent/tracker_state.h"
#include "lib/image/digest.h"

_Static_assert(TRACKER_STAMP_SIZE == sizeof(((struct track_stamp *)0)->nonce), "of one size");
_Static_assert(TRACKER_STAMPS == TRACK_STAMPS, "as many as tracker.h says");

/* The kernel's generator may have been taken back too, and say again what it said then. The clock goes on. */
static int nonce_draw(uint8_t ret[TRACKER_STAMP_SIZE])
{
	uint8_t random[32], hash[DIGEST_SIZE];
	struct timespec now = { 0 };
	const struct iovec parts[] = { { random, sizeof(random) }, { &now, sizeof(now) } };

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;
	clock_gettime(CLOCK_REALTIME, &now);
	digest_of(parts, ARRAY_SIZE(parts), hash);
	memcpy(ret, hash, TRACKER_STAMP_SIZE);
	return 0;
}

int tracker_stamp(struct tracker *t, uint32_t era, uint8_t ret[TRACKER_STAMP_SIZE], struct err *e)
{
	struct track_stamp *s;
	int r;

	r = nonce_draw(ret);
	if (r < 0)
		return err_set_errno(e, r, "no random numbers");
	s = &t->stamps[__atomic_fetch_add(&t->control->stamps, 1, __ATOMIC_SEQ_CST) % TRACK_STAMPS];
	__atomic_store_n(&s->era, 0, __ATOMIC_SEQ_CST);
	memcpy(s->nonce, ret, sizeof(s->nonce));
	__atomic_store_n(&s->era, era, __ATOMIC_SEQ_CST);
	return 0;
}

bool tracker_stamped(const struct tracker *t, uint32_t era, const uint8_t stamp[TRACKER_STAMP_SIZE])
{
	for (size_t i = 0; i < TRACK_STAMPS && era; i++) {
		const struct track_stamp *s = &t->stamps[i];

		if (__atomic_load_n(&s->era, __ATOMIC_SEQ_CST) == era &&
		    memcmp(s->nonce, stamp, sizeof(s->nonce)) == 0)
			return true;
	}
	return false;
}
