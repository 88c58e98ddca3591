/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/parent_server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

struct server {
	int fd;
	const struct parent_server_ops *ops;
	void *ctx;
	uint8_t *buffer; /* for the largest page or chunk */
};

/* 1: all of it, 0: the other end has closed before the first byte, or a negative errno. */
static int server_receive(int fd, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(fd, (uint8_t *)buf + got, len - got, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ECONNRESET ? 0 : -errno;
		if (n == 0)
			return got ? -EBADMSG : 0;
		got += (size_t)n;
	}
	return 1;
}

/* 1, 0: nobody listens any more, or a negative errno. */
static int server_send(int fd, const void *buf, size_t len)
{
	size_t sent = 0;

	while (sent < len) {
		ssize_t n = send(fd, (const uint8_t *)buf + sent, len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
		sent += (size_t)n;
	}
	return 1;
}

/* What is asked for. Its length, or a negative errno for the other side. */
static ssize_t server_find(struct server *s, const struct parent_request *q, const void **ret)
{
	const uint32_t region = le32_get(q->region);
	const uint64_t number = le64_get(q->number);
	const char *text = NULL;
	size_t len = 0;
	int r;

	*ret = s->buffer;
	switch (le32_get(q->kind)) {
	case PARENT_MANIFEST:
		r = s->ops->manifest(s->ctx, &text, &len);
		*ret = text;
		if (r >= 0 && len > PARENT_MANIFEST_MAX)
			return -EFBIG;
		return r < 0 ? r : (ssize_t)len;
	case PARENT_PAGE:
		return s->ops->page(s->ctx, region, number, s->buffer);
	case PARENT_CHUNK:
		return s->ops->chunk(s->ctx, region, number, s->buffer);
	default:
		return -ENOSYS;
	}
}

static int server_answer(struct server *s, const struct parent_request *q)
{
	struct parent_answer a = { .length = le64(0) };
	const void *data = NULL;
	ssize_t n = server_find(s, q, &data);
	int r;

	memcpy(a.magic, PARENT_MAGIC, sizeof(a.magic));
	a.status = le32((uint32_t)(n < 0 ? -n : 0));
	a.length = le64((uint64_t)(n < 0 ? 0 : n));
	r = server_send(s->fd, &a, sizeof(a));
	return r <= 0 || n <= 0 ? r : server_send(s->fd, data, (size_t)n);
}

int parent_serve(int fd, const struct parent_server_ops *ops, void *ctx, struct err *e)
{
	_cleanup_free_ uint8_t *buffer = malloc(MAX(PARENT_CHUNK_MAX, AMBRO_PAGE_MAX));
	struct server s = { fd, ops, ctx, buffer };
	struct parent_request q;
	int r;

	if (!buffer)
		return err_oom(e);
	while ((r = server_receive(fd, &q, sizeof(q))) > 0) {
		if (memcmp(q.magic, PARENT_MAGIC, sizeof(q.magic)) != 0)
			r = -EBADMSG;
		if (r > 0)
			r = server_answer(&s, &q);
		if (r <= 0)
			break;
	}
	if (r == -EBADMSG)
		return err_set(e, r, "what the agent asks of the parent is not understood");
	return r < 0 ? err_set_errno(e, r, "the line on which the agent asks for the parent") : 0;
}
