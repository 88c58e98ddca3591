/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/digest_lanes.h"

#ifdef HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/image/digest.h"

static pthread_key_t thread_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool usable; /* set once */

static void lanes_free(void *manager)
{
	free_mb_mgr(manager);
}

static IMB_MGR *lanes_new(void)
{
	IMB_MGR *m = alloc_mb_mgr(0);
	IMB_ARCH arch;

	if (!m)
		return NULL;
	init_mb_mgr_auto(m, &arch);
	if (!imb_get_errno(m))
		return m;
	free_mb_mgr(m);
	return NULL;
}

/* A manager belongs to one thread; it is made at its first use. */
static IMB_MGR *lanes_of_thread(void)
{
	static _Thread_local IMB_MGR *manager;

	if (!manager) {
		manager = lanes_new();
		if (manager && pthread_setspecific(thread_key, manager)) {
			free_mb_mgr(manager);
			manager = NULL;
		}
	}
	return manager;
}

static bool lanes_run(IMB_MGR *m, const uint8_t *data, size_t len, size_t piece, uint8_t *ret)
{
	size_t sent = 0, done = 0;
	bool good = true;
	IMB_JOB *job;

	for (size_t at = 0; at < len; at += piece, sent++) {
		job = IMB_GET_NEXT_JOB(m);
		memset(job, 0, sizeof(*job));
		job->cipher_mode = IMB_CIPHER_NULL;
		job->cipher_direction = IMB_DIR_ENCRYPT;
		job->chain_order = IMB_ORDER_HASH_CIPHER;
		job->hash_alg = IMB_AUTH_SHA_256;
		job->src = data + at;
		job->msg_len_to_hash_in_bytes = MIN(piece, len - at);
		job->auth_tag_output = ret + sent * DIGEST_SIZE;
		job->auth_tag_output_len_in_bytes = DIGEST_SIZE;
		for (job = IMB_SUBMIT_JOB(m); job; job = IMB_GET_COMPLETED_JOB(m), done++)
			good &= job->status == IMB_STATUS_COMPLETED;
	}
	for (job = IMB_FLUSH_JOB(m); job; job = IMB_FLUSH_JOB(m), done++)
		good &= job->status == IMB_STATUS_COMPLETED;
	return good && done == sent;
}

/* Full pieces, a short one, and more than any machine has lanes; patterns that tell the lanes apart. */
#define TRIAL_PIECE  192u
#define TRIAL_PIECES 37u

static bool lanes_agree(IMB_MGR *m)
{
	uint8_t data[TRIAL_PIECE * TRIAL_PIECES - 5], found[TRIAL_PIECES][DIGEST_SIZE];
	uint8_t expected[DIGEST_SIZE];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / TRIAL_PIECE);
	if (!lanes_run(m, data, sizeof(data), TRIAL_PIECE, found[0]))
		return false;
	for (size_t i = 0; i < TRIAL_PIECES; i++) {
		const size_t at = i * TRIAL_PIECE;
		const size_t n = MIN((size_t)TRIAL_PIECE, sizeof(data) - at);

		digest_of(&(struct iovec){ data + at, n }, 1, expected);
		if (memcmp(expected, found[i], DIGEST_SIZE) != 0)
			return false;
	}
	return true;
}

static void lanes_setup(void)
{
	IMB_MGR *m;

	if (pthread_key_create(&thread_key, lanes_free))
		return;
	m = lanes_of_thread();
	if (!m)
		return;
	usable = ((m->features & IMB_FEATURE_AVX512_SKX) == IMB_FEATURE_AVX512_SKX ||
		  ((m->features & IMB_FEATURE_AVX2) && !(m->features & IMB_FEATURE_SHANI))) &&
		 lanes_agree(m);
}

bool digest_lanes_usable(void)
{
	pthread_once(&once, lanes_setup);
	return usable;
}

bool digest_lanes(const uint8_t *data, size_t len, size_t piece, uint8_t *ret)
{
	IMB_MGR *m;

	if (piece > DIGEST_LANES_MOST_BYTES || !digest_lanes_usable())
		return false;
	m = lanes_of_thread();
	return m && lanes_run(m, data, len, piece, ret);
}

#else /* no libipsec-mb for this architecture */

bool digest_lanes_usable(void)
{
	return false;
}

bool digest_lanes(const uint8_t *data, size_t len, size_t piece, uint8_t *ret)
{
	return false;
}

#endif
