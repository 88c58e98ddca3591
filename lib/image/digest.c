/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/digest.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "lib/image/digest_lanes.h"

/* Set once, never changed again. */
static EVP_MD *sha256;
static pthread_key_t thread_key;
static bool lanes;
static pthread_once_t once = PTHREAD_ONCE_INIT, lanes_once = PTHREAD_ONCE_INIT;

/* A thread's own: the tree's root is in work while its leaves are. */
struct contexts {
	EVP_MD_CTX *piece, *root;
};

static void contexts_free(void *arg)
{
	struct contexts *c = arg;

	EVP_MD_CTX_free(c->piece);
	EVP_MD_CTX_free(c->root);
	free(c);
}

static void digest_setup(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256 || pthread_key_create(&thread_key, contexts_free))
		abort();
}

static EVP_MD_CTX *context_new(void)
{
	EVP_MD_CTX *context;

	pthread_once(&once, digest_setup);
	context = EVP_MD_CTX_new();
	if (!context)
		abort();
	return context;
}

static struct contexts *contexts_of_thread(void)
{
	static _Thread_local struct contexts *contexts;

	if (!contexts) {
		contexts = malloc(sizeof(*contexts));
		if (!contexts)
			abort();
		*contexts = (struct contexts){ context_new(), context_new() };
		/* only for its destructor, at the thread's end */
		if (pthread_setspecific(thread_key, contexts))
			abort();
	}
	return contexts;
}

static void context_hash(EVP_MD_CTX *context, const struct iovec *parts, size_t n,
			 uint8_t ret[DIGEST_SIZE])
{
	int ok = EVP_DigestInit_ex2(context, sha256, NULL);

	for (size_t i = 0; i < n; i++)
		ok &= EVP_DigestUpdate(context, parts[i].iov_base, parts[i].iov_len);
	ok &= EVP_DigestFinal_ex(context, ret, NULL);
	if (!ok)
		abort();
}

void digest_of(const struct iovec *parts, size_t n, uint8_t ret[DIGEST_SIZE])
{
	context_hash(contexts_of_thread()->piece, parts, n, ret);
}

/* Full pieces, a short one, and more than any machine has lanes; patterns that tell the lanes apart. */
#define TRIAL_PIECE  192u
#define TRIAL_PIECES 37u

/* A library's vector code decides on what is written to disks: it must agree with libcrypto first. */
static bool lanes_agree(void)
{
	uint8_t data[TRIAL_PIECE * TRIAL_PIECES - 5], found[TRIAL_PIECES][DIGEST_SIZE];
	uint8_t expected[DIGEST_SIZE];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / TRIAL_PIECE);
	if (!digest_lanes(data, sizeof(data), TRIAL_PIECE, found[0]))
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
	lanes = digest_lanes_pay() && lanes_agree();
}

static bool lanes_usable(void)
{
	pthread_once(&lanes_once, lanes_setup);
	return lanes;
}

static_assert(DIGEST_LANES_HASH_SIZE == DIGEST_SIZE, "the same hash");

/* With few leaves most lanes would run empty. */
#define LEAVES_FOR_LANES 3u
#define LEAVES_AT_ONCE	 64u

static void digest_leaves(EVP_MD_CTX *context, const uint8_t *data, size_t len, size_t leaf,
			  uint8_t (*ret)[DIGEST_SIZE])
{
	if (len > leaf * (LEAVES_FOR_LANES - 1) && lanes_usable() &&
	    digest_lanes(data, len, leaf, ret[0]))
		return;
	for (size_t at = 0, i = 0; at < len; at += leaf, i++) {
		struct iovec piece = { (void *)(data + at), MIN(leaf, len - at) };

		context_hash(context, &piece, 1, ret[i]);
	}
}

void digest_tree(const void *head, size_t head_len, const void *data, size_t len, size_t leaf,
		 uint8_t ret[DIGEST_SIZE])
{
	struct contexts *c = contexts_of_thread();
	uint8_t leaves[LEAVES_AT_ONCE][DIGEST_SIZE];
	int ok = EVP_DigestInit_ex2(c->root, sha256, NULL);

	ok &= EVP_DigestUpdate(c->root, head, head_len);
	for (size_t at = 0; at < len; at += LEAVES_AT_ONCE * leaf) {
		const size_t n = MIN(LEAVES_AT_ONCE * leaf, len - at);

		digest_leaves(c->piece, (const uint8_t *)data + at, n, leaf, leaves);
		ok &= EVP_DigestUpdate(c->root, leaves, DIV_ROUND_UP(n, leaf) * DIGEST_SIZE);
	}
	ok &= EVP_DigestFinal_ex(c->root, ret, NULL);
	if (!ok)
		abort();
}

struct digest {
	EVP_MD_CTX *context;
};

struct digest *digest_new(void)
{
	struct digest *d = malloc(sizeof(*d));

	if (!d)
		abort();
	d->context = context_new();
	if (!EVP_DigestInit_ex2(d->context, sha256, NULL))
		abort();
	return d;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->context);
	free(d);
}

void digest_add(struct digest *d, const void *data, size_t len)
{
	if (!EVP_DigestUpdate(d->context, data, len))
		abort();
}

void digest_end(struct digest *d, uint8_t ret[DIGEST_SIZE])
{
	if (!EVP_DigestFinal_ex(d->context, ret, NULL))
		abort();
}
