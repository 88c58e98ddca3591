/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/digest_lanes.h"

#ifdef HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <string.h>

#include "lib/base/cleanup.h"

static pthread_key_t thread_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool pay; /* set once */

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
		job->auth_tag_output = ret + sent * DIGEST_LANES_HASH_SIZE;
		job->auth_tag_output_len_in_bytes = DIGEST_LANES_HASH_SIZE;
		for (job = IMB_SUBMIT_JOB(m); job; job = IMB_GET_COMPLETED_JOB(m), done++)
			good &= job->status == IMB_STATUS_COMPLETED;
	}
	for (job = IMB_FLUSH_JOB(m); job; job = IMB_FLUSH_JOB(m), done++)
		good &= job->status == IMB_STATUS_COMPLETED;
	return good && done == sent;
}

static void lanes_setup(void)
{
	IMB_MGR *m;

	if (pthread_key_create(&thread_key, lanes_free))
		return;
	m = lanes_of_thread();
	if (!m)
		return;
	pay = (m->features & IMB_FEATURE_AVX512_SKX) == IMB_FEATURE_AVX512_SKX ||
	      ((m->features & IMB_FEATURE_AVX2) && !(m->features & IMB_FEATURE_SHANI));
}

bool digest_lanes_pay(void)
{
	pthread_once(&once, lanes_setup);
	return pay;
}

bool digest_lanes(const uint8_t *data, size_t len, size_t piece, uint8_t *ret)
{
	IMB_MGR *m;

	if (piece > DIGEST_LANES_MOST_BYTES || !digest_lanes_pay())
		return false;
	m = lanes_of_thread();
	return m && lanes_run(m, data, len, piece, ret);
}

#else /* no libipsec-mb for this architecture */

bool digest_lanes_pay(void)
{
	return false;
}

bool digest_lanes(const uint8_t *data, size_t len, size_t piece, uint8_t *ret)
{
	return false;
}

#endif
