/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/parent.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/image/parent.h"
#include "lib/image/tree.h"

/* Workers stand close to each other in disk order, and re-reads hop: a few leaves, of 4096 chunks each. */
#define PAGES_KEPT 8u

struct kept_page {
	uint8_t *body; /* NULL: unused */
	struct page_view view;
	uint32_t region;
	uint64_t number;
	uint64_t used; /* when last, in calls */
};

struct parent {
	int fd;
	struct cancel *cancel;
	struct manifest *manifest;
	pthread_mutex_t lock; /* of everything below, and of the line */
	struct kept_page pages[PAGES_KEPT];
	uint64_t calls;
	struct err failed; /* code 0: the line is well */
};

/* ---- the line ------------------------------------------------------------------------------------ */

static int line_send(const struct parent *p, const void *buf, size_t len)
{
	const uint8_t *at = buf;

	while (len) {
		ssize_t n = send(p->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r;

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			r = cancel_wait_fd(p->cancel, p->fd, POLLOUT);
			if (r < 0)
				return r;
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int line_receive(const struct parent *p, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len) {
		ssize_t n;
		int r;

		/* also while bytes come in one by one */
		if (cancel_raised(p->cancel))
			return -ECANCELED;
		n = recv(p->fd, at, len, MSG_DONTWAIT);
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else if (n == 0) {
			return -EPIPE;
		} else if (errno == EAGAIN) {
			r = cancel_wait_fd(p->cancel, p->fd, POLLIN);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* From now on every call fails with this. */
static int line_fail(struct parent *p, int r)
{
	if (p->failed.code)
		return p->failed.code;
	if (r == -ECANCELED)
		return err_set(&p->failed, r, "cancelled");
	if (r == -EBADMSG)
		return err_set(&p->failed, r, "what the client says of the parent image cannot be");
	return err_set_errno(&p->failed, r,
			     "the client does not tell of the parent image any more");
}

static struct parent_request line_request(enum parent_kind kind, uint32_t region, uint64_t number)
{
	struct parent_request q = { .kind = le32(kind),
				    .region = le32(region),
				    .number = le64(number) };

	memcpy(q.magic, PARENT_MAGIC, sizeof(q.magic));
	return q;
}

/* Ask, and take in the answer's head. Returns its length, *ret_status the client's errno. */
static int64_t line_ask(struct parent *p, const struct parent_request *q, int *ret_status)
{
	struct parent_answer a;
	uint32_t status;
	int r;

	if (p->failed.code)
		return p->failed.code;
	r = line_send(p, q, sizeof(*q));
	if (r >= 0)
		r = line_receive(p, &a, sizeof(a));
	if (r < 0)
		return line_fail(p, r);
	status = le32_get(a.status);
	if (memcmp(a.magic, PARENT_MAGIC, sizeof(a.magic)) != 0 || status > INT16_MAX ||
	    (status && le64_get(a.length)) || le64_get(a.length) > PARENT_MANIFEST_MAX)
		return line_fail(p, -EBADMSG);
	*ret_status = (int)status;
	return (int64_t)le64_get(a.length);
}

/* As line_ask(), for what the capture cannot go on without: 1 … @max bytes, in a buffer that is the caller's then. */
static int line_fetch(struct parent *p, const struct parent_request *q, size_t max, uint8_t **ret,
		      size_t *ret_len)
{
	_cleanup_free_ uint8_t *body = NULL;
	int status = 0, r;
	int64_t len = line_ask(p, q, &status);

	if (len < 0)
		return (int)len;
	if (status)
		return line_fail(p, -status);
	if (!len || (uint64_t)len > max)
		return line_fail(p, -EBADMSG);
	body = malloc((size_t)len);
	if (!body)
		return line_fail(p, -ENOMEM);
	r = line_receive(p, body, (size_t)len);
	if (r < 0)
		return line_fail(p, r);
	*ret = TAKE_PTR(body);
	*ret_len = (size_t)len;
	return 0;
}

/* ---- the manifest -------------------------------------------------------------------------------- */

static int parent_check_socket(int fd, struct err *e)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return err_set(e, -EINVAL, "parent is not a stream socket");
	return 0;
}

int parent_open(int fd, struct cancel *cancel, struct parent **ret, struct err *e)
{
	_cleanup_(parent_freep) struct parent *p = NULL;
	const struct parent_request q = line_request(PARENT_MANIFEST, 0, 0);
	_cleanup_free_ uint8_t *text = NULL;
	size_t len = 0;
	int r;

	r = parent_check_socket(fd, e);
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_oom(e);
	p->fd = fd;
	p->cancel = cancel;
	pthread_mutex_init(&p->lock, NULL);
	r = line_fetch(p, &q, PARENT_MANIFEST_MAX, &text, &len);
	if (r < 0) {
		*e = p->failed;
		return r;
	}
	r = manifest_from_json((const char *)text, len, &p->manifest, e);
	if (r < 0)
		return err_prefix(e, "the parent image"), r;
	*ret = TAKE_PTR(p);
	return 0;
}

void parent_free(struct parent *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < PAGES_KEPT; i++)
		free(p->pages[i].body);
	manifest_free(p->manifest);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

const struct manifest *parent_manifest(const struct parent *p)
{
	return p->manifest;
}

void parent_break(struct parent *p)
{
	if (p)
		shutdown(p->fd, SHUT_RDWR);
}

/* ---- pages and chunks ---------------------------------------------------------------------------- */

/* Chunks that page @number of @region speaks of; 0: there is no such page. */
static uint64_t parent_page_count(const struct parent *p, uint32_t region, uint64_t number)
{
	const uint64_t first = number * AMBRO_PAGE_FANOUT;
	uint64_t chunks;

	if (region >= p->manifest->n_regions)
		return 0;
	chunks = region_chunks(p->manifest->regions[region].length, p->manifest->chunk_size);
	return first < chunks ? MIN(chunks - first, (uint64_t)AMBRO_PAGE_FANOUT) : 0;
}

static struct kept_page *parent_find_page(struct parent *p, uint32_t region, uint64_t number,
					  struct kept_page **ret_oldest)
{
	struct kept_page *oldest = &p->pages[0];

	for (size_t i = 0; i < PAGES_KEPT; i++) {
		struct kept_page *k = &p->pages[i];

		if (k->body && k->region == region && k->number == number)
			return k;
		if (k->used < oldest->used)
			oldest = k;
	}
	*ret_oldest = oldest;
	return NULL;
}

static int parent_page(struct parent *p, uint32_t region, uint64_t number, struct kept_page **ret)
{
	const struct parent_request q = line_request(PARENT_PAGE, region, number);
	const uint64_t count = parent_page_count(p, region, number);
	_cleanup_free_ uint8_t *body = NULL;
	struct kept_page *k, *oldest = NULL;
	struct page_view view;
	size_t len = 0;
	int r;

	if (p->failed.code)
		return p->failed.code;
	k = parent_find_page(p, region, number, &oldest);
	if (!k) {
		r = line_fetch(p, &q, AMBRO_PAGE_MAX, &body, &len);
		if (r < 0)
			return r;
		if (page_parse(body, len, 0, count, &view) < 0)
			return line_fail(p, -EBADMSG);
		k = oldest;
		free(k->body);
		*k = (struct kept_page){ TAKE_PTR(body), view, region, number, 0 };
	}
	k->used = ++p->calls;
	*ret = k;
	return 0;
}

int parent_chunk(struct parent *p, uint32_t region, uint64_t index, enum chunk_state *ret_state,
		 struct chunk_id *ret_id, struct err *e)
{
	struct kept_page *k = NULL;
	int r;

	pthread_mutex_lock(&p->lock);
	r = parent_page(p, region, index / AMBRO_PAGE_FANOUT, &k);
	if (r >= 0)
		*ret_state = page_entry(&k->view, index % AMBRO_PAGE_FANOUT, ret_id);
	if (r < 0 && e)
		*e = p->failed;
	pthread_mutex_unlock(&p->lock);
	return r;
}

int parent_content(struct parent *p, uint32_t region, uint64_t index, void *ret, struct err *e)
{
	const struct parent_request q = line_request(PARENT_CHUNK, region, index);
	const uint32_t want = region_chunk_len(p->manifest->regions[region].length,
					       p->manifest->chunk_size, index);
	int status = 0, r = 0;
	int64_t len;

	pthread_mutex_lock(&p->lock);
	len = line_ask(p, &q, &status);
	if (len < 0) {
		r = (int)len;
	} else if (status) {
		r = -EACCES;
	} else if (len != want) {
		r = line_fail(p, -EBADMSG);
	} else {
		r = line_receive(p, ret, want);
		r = r < 0 ? line_fail(p, r) : 0;
	}
	if (r < 0 && e && p->failed.code)
		*e = p->failed;
	pthread_mutex_unlock(&p->lock);
	return r;
}
