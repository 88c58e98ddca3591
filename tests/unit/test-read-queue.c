/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/read_queue.h"
#include "lib/base/io.h"

#define PIECE  8192u
#define PIECES 300u

typedef int (*maker)(const struct read_queue_settings *settings, struct read_queue **ret);

struct fixture {
	int fd;
	uint8_t *buffers; /* PIECES of them */
	struct read_queue *queue;
};

static uint8_t byte_at(uint64_t place)
{
	return (uint8_t)(place * 31 + place / PIECE * 7);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint8_t piece[PIECE];

	f->fd = memfd_create("source", MFD_CLOEXEC);
	for (uint64_t i = 0; i < PIECES; i++) {
		for (uint32_t k = 0; k < PIECE; k++)
			piece[k] = byte_at(i * PIECE + k);
		assert_int_equal(io_pwrite_all(f->fd, piece, PIECE, i * PIECE), 0);
	}
	f->buffers = calloc(PIECES, PIECE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	read_queue_free(f->queue);
	free(f->buffers);
	close(f->fd);
	free(f);
	return 0;
}

static void make(struct fixture *f, maker m)
{
	/* the second half of the buffers is not registered */
	struct read_queue_settings s = { f->fd, f->buffers, (size_t)PIECES / 2 * PIECE };
	int r = m(&s, &f->queue);

	if (r == -ENOSYS || r == -EPERM)
		skip();
	assert_int_equal(r, 0);
}

static void all_are_read(struct fixture *f)
{
	struct read_done done[READ_QUEUE_DEPTH];
	unsigned int started = 0, finished = 0, seen[PIECES] = { 0 };

	while (finished < PIECES) {
		int n;

		while (started < PIECES && started - finished < READ_QUEUE_DEPTH) {
			f->queue->ops->start(f->queue, started,
					     f->buffers + (size_t)started * PIECE, PIECE,
					     (uint64_t)started * PIECE);
			started++;
		}
		n = f->queue->ops->reap(f->queue, true, done);
		assert_true(n > 0 && n <= (int)READ_QUEUE_DEPTH);
		for (int i = 0; i < n; i++) {
			assert_int_equal(done[i].result, PIECE);
			assert_int_equal(seen[done[i].number]++, 0);
		}
		finished += (unsigned int)n;
	}
	assert_int_equal(f->queue->ops->reap(f->queue, false, done), 0);
	for (uint64_t i = 0; i < (uint64_t)PIECES * PIECE; i++)
		assert_int_equal(f->buffers[i], byte_at(i));
}

static void ends_and_errors_are_told(struct fixture *f)
{
	struct read_done done[READ_QUEUE_DEPTH];

	f->queue->ops->start(f->queue, 5, f->buffers, PIECE, (uint64_t)PIECES * PIECE - 100);
	assert_int_equal(f->queue->ops->reap(f->queue, true, done), 1);
	assert_int_equal(done[0].number, 5);
	assert_int_equal(done[0].result, 100);
	f->queue->ops->start(f->queue, 6, (void *)16, PIECE, 0);
	assert_int_equal(f->queue->ops->reap(f->queue, true, done), 1);
	assert_int_equal(done[0].number, 6);
	assert_int_equal(done[0].result, -EFAULT);
}

static void the_ring_reads_all(void **state)
{
	make(*state, read_ring_new);
	all_are_read(*state);
}

static void threads_read_all(void **state)
{
	make(*state, read_threads_new);
	all_are_read(*state);
}

static void the_ring_tells_ends_and_errors(void **state)
{
	make(*state, read_ring_new);
	ends_and_errors_are_told(*state);
}

static void threads_tell_ends_and_errors(void **state)
{
	make(*state, read_threads_new);
	ends_and_errors_are_told(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_ring_reads_all, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_read_all, setup, teardown),
		cmocka_unit_test_setup_teardown(the_ring_tells_ends_and_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_tell_ends_and_errors, setup, teardown),
	};

	return cmocka_run_group_tests_name("read-queue", tests, NULL, NULL);
}
