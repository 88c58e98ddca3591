/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/digest.h"

#include <pthread.h>
#include <stdlib.h>

#include <openssl/evp.h>

/* Set once, never changed again. */
static EVP_MD *sha256;
static pthread_key_t thread_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void digest_context_free(void *context)
{
	EVP_MD_CTX_free(context);
}

static void digest_setup(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256 || pthread_key_create(&thread_key, digest_context_free))
		abort();
}

static EVP_MD_CTX *digest_context_new(void)
{
	EVP_MD_CTX *context;

	pthread_once(&once, digest_setup);
	context = EVP_MD_CTX_new();
	if (!context)
		abort();
	return context;
}

static EVP_MD_CTX *digest_thread_context(void)
{
	static _Thread_local EVP_MD_CTX *context;

	if (!context) {
		context = digest_context_new();
		/* only for its destructor, at the thread's end */
		if (pthread_setspecific(thread_key, context))
			abort();
	}
	return context;
}

void digest_of(const struct iovec *parts, size_t n, uint8_t ret[DIGEST_SIZE])
{
	EVP_MD_CTX *context = digest_thread_context();
	int ok = EVP_DigestInit_ex2(context, sha256, NULL);

	for (size_t i = 0; i < n; i++)
		ok &= EVP_DigestUpdate(context, parts[i].iov_base, parts[i].iov_len);
	ok &= EVP_DigestFinal_ex(context, ret, NULL);
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
	d->context = digest_context_new();
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
