/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "agent/parent.h"
#include "lib/image/parent_server.h"
#include "lib/image/tree.h"
#include "tests/unit/image-fixture.h"

#define CHUNKS UINT64_C(4100)

/* A client with a parent of one region: chunk n is free, zero, data (its bytes are n's) by n % 3. */
struct client {
	int line[2];
	pthread_t thread;
	struct manifest *manifest;
	char *json;
	size_t json_len;
	int content; /* negative: the status of a CHUNK */
	uint32_t short_by;
	unsigned int pages;
	int served; /* what parent_serve() returned */
	struct cancel cancel;
};

static void chunk_bytes(uint64_t n, uint8_t *ret)
{
	fill_text(ret, FIXTURE_CHUNK, n);
}

static int give_manifest(void *ctx, const char **ret, size_t *ret_len)
{
	struct client *c = ctx;

	*ret = c->json;
	*ret_len = c->json_len;
	return 0;
}

static ssize_t give_page(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct client *c = ctx;
	const uint64_t first = number * AMBRO_PAGE_FANOUT;
	const uint32_t count = (uint32_t)MIN(CHUNKS - first, (uint64_t)AMBRO_PAGE_FANOUT);
	_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK);
	uint8_t *states = (uint8_t *)ret + sizeof(struct ambro_page);
	struct chunk_id *ids = (struct chunk_id *)(states + count);

	c->pages++;
	assert_int_equal(region, 0);
	page_make_uniform(0, count, CHUNK_FREE, ret);
	for (uint32_t i = 0; i < count; i++) {
		states[i] = (first + i) % 3;
		if (states[i] != CHUNK_DATA)
			continue;
		chunk_bytes(first + i, plain);
		chunk_id_of(plain, FIXTURE_CHUNK, ids++);
	}
	return (uint8_t *)ids - (uint8_t *)ret;
}

static ssize_t give_chunk(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct client *c = ctx;

	if (c->content < 0)
		return c->content;
	chunk_bytes(number, ret);
	return FIXTURE_CHUNK - c->short_by;
}

static void *client_main(void *arg)
{
	static const struct parent_server_ops ops = { give_manifest, give_page, give_chunk };
	struct client *c = arg;

	c->served = parent_serve(c->line[0], &ops, c, NULL);
	shutdown(c->line[0], SHUT_RDWR);
	return NULL;
}

static int setup(void **state)
{
	struct client *c = calloc(1, sizeof(*c));
	struct manifest *m;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->line), 0);
	assert_int_equal(cancel_init(&c->cancel), 0);
	assert_int_equal(manifest_new(1, &c->manifest), 0);
	m = c->manifest;
	m->chunk_size = FIXTURE_CHUNK;
	m->disk_size = m->regions[0].length = CHUNKS * FIXTURE_CHUNK;
	m->logical_sector = 512;
	m->regions[0].kind = REGION_WHOLE;
	m->regions[0].depth = 2;
	assert_int_equal(manifest_to_json(m, &c->json, &c->json_len, NULL), 0);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct client *c = *state;

	manifest_free(c->manifest);
	free(c->json);
	cancel_done(&c->cancel);
	close_fd(c->line[0]);
	close_fd(c->line[1]);
	free(c);
	return 0;
}

static struct parent *client_start(struct client *c)
{
	struct parent *p = NULL;
	struct err e = { 0 };

	assert_int_equal(pthread_create(&c->thread, NULL, client_main, c), 0);
	assert_int_equal(parent_open(c->line[1], &c->cancel, &p, &e), 0);
	return p;
}

static void client_end(struct client *c, struct parent *p)
{
	parent_free(p);
	c->line[1] = close_fd(c->line[1]);
	pthread_join(c->thread, NULL);
	assert_int_equal(c->served, 0);
}

static void it_tells_of_chunks_and_asks_for_a_page_once(void **state)
{
	struct client *c = *state;
	struct parent *p = client_start(c);
	_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK);

	assert_int_equal(parent_manifest(p)->disk_size, c->manifest->disk_size);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		enum chunk_state s = CHUNK_BAD;
		struct chunk_id id, want;

		assert_int_equal(parent_chunk(p, 0, i, &s, &id, NULL), 0);
		assert_int_equal(s, i % 3);
		if (s != CHUNK_DATA || i % 100 > 5)
			continue;
		chunk_bytes(i, plain);
		chunk_id_of(plain, FIXTURE_CHUNK, &want);
		assert_true(chunk_id_equal(&id, &want));
	}
	assert_int_equal(c->pages, 2);
	client_end(c, p);
}

static void contents_come_or_are_refused(void **state)
{
	struct client *c = *state;
	struct parent *p = client_start(c);
	_cleanup_free_ uint8_t *plain = malloc(FIXTURE_CHUNK), *want = malloc(FIXTURE_CHUNK);
	enum chunk_state s;
	struct chunk_id id;
	struct err e = { 0 };

	chunk_bytes(77, want);
	assert_int_equal(parent_content(p, 0, 77, plain, &e), 0);
	assert_memory_equal(plain, want, FIXTURE_CHUNK);
	for (int i = 1; i < 4; i++) {
		c->content = (int[]){ 0, -EACCES, -ENOENT, -EIO }[i];
		assert_int_equal(parent_content(p, 0, 77, plain, &e), -EACCES);
	}
	/* a refusal is no failure */
	assert_int_equal(parent_chunk(p, 0, 2, &s, &id, &e), 0);
	c->content = 0;
	assert_int_equal(parent_content(p, 0, 78, plain, &e), 0);
	/* a chunk of another length is, and for good */
	c->short_by = 1;
	assert_int_equal(parent_content(p, 0, 77, plain, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "parent"));
	assert_int_equal(parent_chunk(p, 0, 2, &s, &id, &e), -EBADMSG);
	parent_break(p);
	client_end(c, p);
}

static void a_region_or_chunk_that_is_not_there_is_refused(void **state)
{
	struct client *c = *state;
	struct parent *p = client_start(c);
	enum chunk_state s;
	struct err e = { 0 };

	/* the page that comes back cannot be one of no chunks */
	assert_int_equal(parent_chunk(p, 0, CHUNKS + 5000, &s, NULL, &e), -EBADMSG);
	parent_break(p);
	client_end(c, p);
}

/* Answer whatever is asked with these bytes, and hang up. */
struct liar {
	int fd;
	const void *data;
	size_t len;
};

static void *liar_main(void *arg)
{
	const struct liar *l = arg;
	struct parent_request q;

	assert_int_equal(recv(l->fd, &q, sizeof(q), MSG_WAITALL), sizeof(q));
	send(l->fd, l->data, l->len, MSG_NOSIGNAL);
	shutdown(l->fd, SHUT_WR);
	return NULL;
}

static int open_with(struct client *c, const void *data, size_t len)
{
	struct liar l = { c->line[0], data, len };
	struct parent *p = NULL;
	struct err e = { 0 };
	pthread_t t;
	int r;

	assert_int_equal(pthread_create(&t, NULL, liar_main, &l), 0);
	r = parent_open(c->line[1], &c->cancel, &p, &e);
	pthread_join(t, NULL);
	assert_null(p);
	assert_true(r < 0 && *e.text);
	close_fd(c->line[0]);
	close_fd(c->line[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->line), 0);
	return r;
}

static void lies_end_the_opening(void **state)
{
	struct client *c = *state;
	struct {
		struct parent_answer a;
		char text[64];
	} m = { .a = { .magic = { 'A', 'M', 'B', 'P' } }, .text = "{}" };

	assert_int_equal(open_with(c, "", 0), -EPIPE);
	assert_int_equal(open_with(c, "AMBP", 4), -EPIPE);
	assert_int_equal(open_with(c, "XXXXXXXXXXXXXXXX", 16), -EBADMSG);
	assert_int_equal(open_with(c, &m, sizeof(m.a)), -EBADMSG);
	m.a.length = le64(2);
	assert_int_equal(open_with(c, &m, sizeof(m.a) + 2), -EBADMSG);
	m.a.length = le64(50);
	assert_int_equal(open_with(c, &m, sizeof(m.a) + 2), -EPIPE);
	m.a.length = le64(PARENT_MANIFEST_MAX + UINT64_C(1));
	assert_int_equal(open_with(c, &m, sizeof(m)), -EBADMSG);
	m.a.length = le64(UINT64_MAX);
	assert_int_equal(open_with(c, &m, sizeof(m)), -EBADMSG);
	m.a.length = le64(0);
	m.a.status = le32(ENOKEY);
	assert_int_equal(open_with(c, &m, sizeof(m.a)), -ENOKEY);
	m.a.status = le32(UINT32_MAX);
	assert_int_equal(open_with(c, &m, sizeof(m.a)), -EBADMSG);
}

static void *raise_soon(void *arg)
{
	usleep(50000);
	cancel_raise(arg);
	return NULL;
}

static void silence_ends_with_the_cancel(void **state)
{
	struct client *c = *state;
	struct parent *p = NULL;
	struct err e = { 0 };
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, raise_soon, &c->cancel), 0);
	assert_int_equal(parent_open(c->line[1], &c->cancel, &p, &e), -ECANCELED);
	pthread_join(t, NULL);
}

static void what_is_no_stream_socket_is_refused(void **state)
{
	struct client *c = *state;
	struct parent *p = NULL;
	struct err e = { 0 };
	int pipe_fd[2], gram[2];

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, gram), 0);
	assert_int_equal(parent_open(pipe_fd[0], &c->cancel, &p, &e), -EINVAL);
	assert_int_equal(parent_open(gram[0], &c->cancel, &p, &e), -EINVAL);
	for (int i = 0; i < 2; i++) {
		close(pipe_fd[i]);
		close(gram[i]);
	}
}

static void the_server_refuses_what_is_no_request(void **state)
{
	struct client *c = *state;
	const struct parent_request q = { .magic = { 'A', 'M', 'B', 'Q' } };
	struct parent_request odd = { .magic = { 'A', 'M', 'B', 'P' }, .kind = le32(9) };
	struct parent_answer a;

	assert_int_equal(pthread_create(&c->thread, NULL, client_main, c), 0);
	assert_int_equal(io_write_all(c->line[1], &odd, sizeof(odd)), 0);
	assert_int_equal(io_read_all(c->line[1], &a, sizeof(a)), 0);
	assert_int_equal(le32_get(a.status), ENOSYS);
	assert_int_equal(io_write_all(c->line[1], &q, sizeof(q)), 0);
	pthread_join(c->thread, NULL);
	assert_int_equal(c->served, -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_tells_of_chunks_and_asks_for_a_page_once),
		TEST(contents_come_or_are_refused),
		TEST(a_region_or_chunk_that_is_not_there_is_refused),
		TEST(lies_end_the_opening),
		TEST(silence_ends_with_the_cancel),
		TEST(what_is_no_stream_socket_is_refused),
		TEST(the_server_refuses_what_is_no_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
