/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "lib/image/record.h"
#include "lib/repo/stream_reader.h"
#include "tests/unit/image-fixture.h"

static const uint64_t lengths[] = { 512, FIXTURE_CHUNK * 20 + 1, 4097, FIXTURE_CHUNK * 9 };

static struct fixture whole_fixture(uint64_t require)
{
	struct fixture f = fixture_new(lengths, ARRAY_SIZE(lengths));

	fixture_write(&f, require);
	return f;
}

/* What was seen of a stream. */
struct seen {
	unsigned int items[AMBRO_RECORD_TRAILER + 1];
	uint64_t bytes;
	uint8_t *disk; /* may be NULL; made of the chunks */
};

static int stream_see(int fd, const struct fixture *f, struct seen *ret, struct err *e)
{
	_cleanup_(stream_reader_freep) struct stream_reader *s = NULL;
	struct stream_item i;
	int r;

	assert_int_equal(stream_reader_new(fd, NULL, &s), 0);
	while ((r = stream_reader_next(s, &i, e)) > 0) {
		ret->items[i.type]++;
		if (i.type != AMBRO_RECORD_CHUNK || !ret->disk)
			continue;
		assert_int_equal(codec_decompress(f->codec, i.frame, i.frame_len,
						  ret->disk + f->manifest->regions[i.region].start +
							  i.index * FIXTURE_CHUNK,
						  i.plain_len),
				 0);
	}
	ret->bytes = stream_reader_bytes(s);
	if (r < 0) {
		assert_int_equal(e->code, r);
		assert_true(*e->text);
	}
	return r;
}

static int bytes_see(const void *image, size_t len, const struct fixture *f, struct seen *ret)
{
	_cleanup_close_ int fd = image_memfd(image, len);
	struct err e = { 0 };

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return stream_see(fd, f, ret, &e);
}

static void every_record_of_an_image_is_seen_once(void **state)
{
	for (uint64_t require = 0; require <= AMBRO_REQUIRE_WHOLE; require++) {
		_cleanup_fixture_ struct fixture f = whole_fixture(require);
		struct seen seen = { .disk = calloc(f.manifest->disk_size, 1) };

		assert_int_equal(bytes_see(f.image.data, f.image.len, &f, &seen), 0);
		assert_int_equal(seen.items[AMBRO_RECORD_HEADER], 1);
		assert_int_equal(seen.items[AMBRO_RECORD_CHUNK], f.manifest->data_chunks);
		assert_true(seen.items[AMBRO_RECORD_RUN] > 0);
		assert_int_equal(seen.items[AMBRO_RECORD_PAGE], ARRAY_SIZE(lengths));
		assert_int_equal(seen.items[AMBRO_RECORD_INDEX], 1);
		assert_int_equal(seen.items[AMBRO_RECORD_MANIFEST], 1);
		assert_int_equal(seen.items[AMBRO_RECORD_TRAILER], 1);
		assert_int_equal(seen.bytes, f.image.len);
		assert_memory_equal(seen.disk, f.disk, f.manifest->disk_size);
		free(seen.disk);
	}
}

/* ---- a pipe that gives little at a time --------------------------------------------------------- */

struct dripper {
	int fd;
	const struct bytes *image;
};

static void *dripper_thread(void *arg)
{
	struct dripper *d = arg;
	uint64_t state = 3;

	for (size_t at = 0; at < d->image->len;) {
		const size_t some = fixture_random(&state) % 5000 + 1;
		const size_t n = MIN(d->image->len - at, some);

		if (io_write_all(d->fd, d->image->data + at, n) < 0)
			break;
		at += n;
	}
	d->fd = close_fd(d->fd);
	return NULL;
}

static void it_does_not_matter_in_which_pieces_a_pipe_gives_it(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	struct seen seen = { .disk = calloc(f.manifest->disk_size, 1) };
	struct dripper d = { .image = &f.image };
	struct err e = { 0 };
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	/* as the descriptor of somebody who reads without blocking */
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	d.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, dripper_thread, &d), 0);
	assert_int_equal(stream_see(fds[0], &f, &seen, &e), 0);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_memory_equal(seen.disk, f.disk, f.manifest->disk_size);
	free(seen.disk);
}

/* ---- what is refused ---------------------------------------------------------------------------- */

static void a_stream_that_ends_early_says_so(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(AMBRO_REQUIRE_RESENT);

	for (size_t len = 0; len < f.image.len; len += len < 300 ? 1 : f.image.len / 200) {
		struct seen seen = { 0 };

		assert_int_equal(bytes_see(f.image.data, len, &f, &seen), -ENODATA);
	}
}

static void what_is_no_image_is_refused_at_its_first_bytes(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	struct seen seen = { 0 };
	uint8_t zeros[4096] = { 0 };

	assert_int_equal(bytes_see(zeros, sizeof(zeros), &f, &seen), -EBADMSG);
	/* a stream that begins with its second record */
	assert_int_equal(bytes_see(f.image.data + record_frame_len(sizeof(struct ambro_header)),
				   f.image.len - record_frame_len(sizeof(struct ambro_header)), &f,
				   &seen),
			 -EBADMSG);
	assert_int_equal(seen.items[AMBRO_RECORD_CHUNK], 0);
}

static void a_missing_guard_is_noticed(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(AMBRO_REQUIRE_SPARSE);
	const size_t guard = record_frame_len(sizeof(struct ambro_header));
	struct seen seen = { 0 };

	f.image.data[guard + 3] ^= 1;
	assert_int_equal(bytes_see(f.image.data, f.image.len, &f, &seen), -EBADMSG);
	assert_int_equal(seen.items[AMBRO_RECORD_HEADER], 0);
}

/* The image with a record of @type and @flags put in behind the HEADER. */
static struct bytes with_a_record(const struct bytes *image, uint8_t type, uint16_t flags)
{
	const size_t at = record_frame_len(sizeof(struct ambro_header));
	struct bytes out = { 0 };
	struct record_head head;
	uint8_t body[300] = { 1 };

	record_make((enum ambro_record_type)type, body, sizeof(body), &head);
	head.record.flags = le16(flags);
	bytes_add(&out, image->data, at);
	bytes_add(&out, &head, sizeof(head));
	bytes_add(&out, body, sizeof(body));
	bytes_add(&out, image->data + at, image->len - at);
	return out;
}

static void unknown_records_are_skipped_unless_they_are_critical(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	struct bytes more = with_a_record(&f.image, 77, AMBRO_RECORD_CRITICAL);
	struct seen seen = { 0 };

	assert_int_equal(bytes_see(more.data, more.len, &f, &seen), -ENOTSUP);
	free(more.data);
	more = with_a_record(&f.image, 77, 0);
	/* as far as the TRAILER, whose offsets are those of before */
	seen = (struct seen){ 0 };
	assert_int_equal(bytes_see(more.data, more.len, &f, &seen), -EBADMSG);
	assert_int_equal(seen.items[AMBRO_RECORD_CHUNK], f.manifest->data_chunks);
	assert_int_equal(seen.items[AMBRO_RECORD_MANIFEST], 1);
	assert_int_equal(seen.items[AMBRO_RECORD_TRAILER], 0);
	free(more.data);
}

static void a_newer_format_asks_for_a_newer_tool(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	struct record_head *h = (struct record_head *)f.image.data;
	struct ambro_header body;
	struct seen seen = { 0 };

	memcpy(&body, h + 1, sizeof(body));
	body.require_features = le64(UINT64_C(1) << 40);
	memcpy(h + 1, &body, sizeof(body));
	record_make(AMBRO_RECORD_HEADER, &body, sizeof(body), h);
	assert_int_equal(bytes_see(f.image.data, f.image.len, &f, &seen), -ENOTSUP);
}

/* Change the first CHUNK record, and make its check good again. */
static int with_a_chunk_changed(uint32_t frame_len, uint32_t plain_len, uint32_t region,
				uint64_t index)
{
	const uint64_t one[] = { FIXTURE_CHUNK * 4 };
	_cleanup_fixture_ struct fixture f = fixture_new(one, 1);
	struct seen seen = { 0 };
	struct ambro_chunk chunk;
	struct record_head *h;

	fixture_write(&f, 0);
	h = (struct record_head *)(f.image.data + record_frame_len(sizeof(struct ambro_header)));
	assert_int_equal(h->record.type, AMBRO_RECORD_CHUNK);
	memcpy(&chunk, h + 1, sizeof(chunk));
	chunk.frame_len = le32(frame_len);
	chunk.plain_len = le32(plain_len);
	chunk.region = le32(region);
	chunk.index = le64(index);
	record_make(AMBRO_RECORD_CHUNK, &chunk, sizeof(chunk), h);
	memcpy(h + 1, &chunk, sizeof(chunk));
	return bytes_see(f.image.data, f.image.len, &f, &seen);
}

static void numbers_that_cannot_be_are_refused(void **state)
{
	const uint32_t chunk = FIXTURE_CHUNK;

	assert_int_equal(with_a_chunk_changed(2 * chunk + 1, chunk, 0, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(UINT32_MAX, chunk, 0, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(0, chunk, 0, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(100, chunk + 1, 0, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(100, 0, 0, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(100, chunk, 1, 0), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(100, chunk, 0, 4), -EBADMSG);
	assert_int_equal(with_a_chunk_changed(100, chunk, 0, UINT64_MAX), -EBADMSG);
}

static void records_out_of_their_order_are_refused(void **state)
{
	_cleanup_fixture_ struct fixture f = whole_fixture(0);
	const size_t head = record_frame_len(sizeof(struct ambro_header));
	struct seen seen = { 0 };
	struct bytes twice = { 0 };

	bytes_add(&twice, f.image.data, head);
	bytes_add(&twice, f.image.data, f.image.len);
	assert_int_equal(bytes_see(twice.data, twice.len, &f, &seen), -EBADMSG);
	assert_int_equal(seen.items[AMBRO_RECORD_HEADER], 1);
	assert_int_equal(seen.items[AMBRO_RECORD_CHUNK], 0);
	free(twice.data);
}

static void waiting_for_a_pipe_can_be_cancelled(void **state)
{
	_cleanup_(stream_reader_freep) struct stream_reader *s = NULL;
	struct stream_item i;
	struct cancel c;
	struct err e = { 0 };
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(cancel_init(&c), 0);
	cancel_raise(&c);
	assert_int_equal(stream_reader_new(fds[0], &c, &s), 0);
	assert_int_equal(stream_reader_next(s, &i, &e), -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	cancel_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_of_an_image_is_seen_once),
		cmocka_unit_test(it_does_not_matter_in_which_pieces_a_pipe_gives_it),
		cmocka_unit_test(a_stream_that_ends_early_says_so),
		cmocka_unit_test(what_is_no_image_is_refused_at_its_first_bytes),
		cmocka_unit_test(a_missing_guard_is_noticed),
		cmocka_unit_test(unknown_records_are_skipped_unless_they_are_critical),
		cmocka_unit_test(a_newer_format_asks_for_a_newer_tool),
		cmocka_unit_test(numbers_that_cannot_be_are_refused),
		cmocka_unit_test(records_out_of_their_order_are_refused),
		cmocka_unit_test(waiting_for_a_pipe_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
