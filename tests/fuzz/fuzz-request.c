/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arguments of Capture, as a client may send them. Input: a little program that puts a message together: each byte
 * chooses an option's name (or one from the input), its type and its value, which follows.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/request.h"
#include "lib/base/cleanup.h"
#include "lib/image/codec.h"
#include "tests/fuzz/fuzz.h"

struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t take_byte(struct input *in)
{
	if (!in->size)
		return 0;
	in->size--;
	return *in->data++;
}

static uint32_t take_u32(struct input *in)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 8 | take_byte(in);
	return v;
}

/* A length and so many bytes, of which sd-bus takes only valid UTF-8. @buf: 256 bytes. */
static const char *take_text(struct input *in, char *buf)
{
	size_t n = take_byte(in);

	n = n < in->size ? n : in->size;
	memcpy(buf, in->data, n);
	buf[n] = '\0';
	in->data += n;
	in->size -= n;
	return buf;
}

/* A bus that has no other side: messages can be made, nothing is sent. */
static sd_bus *make_bus(void)
{
	static sd_bus *bus;
	int pair[2];

	if (bus)
		return bus;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	FUZZ_CHECK(sd_bus_new(&bus) >= 0);
	FUZZ_CHECK(sd_bus_set_fd(bus, pair[0], pair[0]) >= 0);
	FUZZ_CHECK(sd_bus_start(bus) >= 0);
	return bus;
}

static int append_value(sd_bus_message *m, uint8_t kind, struct input *in)
{
	static const char *const words[] = { "auto", "precopy", "offline", "still" };
	char text[256];

	switch (kind % 8) {
	case 0:
		return sd_bus_message_append(m, "v", "s", words[take_byte(in) % 4]);
	case 1:
		return sd_bus_message_append(m, "v", "s", take_text(in, text));
	case 2:
		return sd_bus_message_append(m, "v", "i", (int32_t)take_u32(in));
	case 3:
		return sd_bus_message_append(m, "v", "u", take_u32(in));
	case 4:
		return sd_bus_message_append(m, "v", "b", take_byte(in) & 1);
	case 5:
		return sd_bus_message_append(m, "v", "t", (uint64_t)take_u32(in) << 32);
	case 6:
		return sd_bus_message_append(m, "v", "as", 2, "a", take_text(in, text));
	default:
		return sd_bus_message_append(m, "v", "v", "i", (int32_t)take_u32(in));
	}
}

static int append_options(sd_bus_message *m, struct input *in)
{
	static const char *const names[] = { "strategy", "level", "max_freeze_ms", "threads",
					     "ignore_read_errors" };
	char text[256];
	int r;

	r = sd_bus_message_open_container(m, 'a', "{sv}");
	for (int i = 0; i < 40 && in->size && r >= 0; i++) {
		uint8_t how = take_byte(in);
		const char *name = how % 8 < 5 ? names[how % 8] : take_text(in, text);

		r = sd_bus_message_open_container(m, 'e', "sv");
		if (r >= 0)
			r = sd_bus_message_append(m, "s", name);
		if (r >= 0)
			r = append_value(m, how >> 3, in);
		if (r >= 0)
			r = sd_bus_message_close_container(m);
	}
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static void check_request(const struct capture_request *q)
{
	FUZZ_CHECK(!*q->source || *q->source == '/');
	FUZZ_CHECK(q->level >= -7 && q->level <= CODEC_LEVEL_MAX);
	FUZZ_CHECK(q->max_freeze_ms >= REQUEST_FREEZE_MS_MIN &&
		   q->max_freeze_ms <= REQUEST_FREEZE_MS_MAX);
	FUZZ_CHECK(q->hooks <= HOOKS_OFF && q->hook_timeout_ms >= REQUEST_HOOK_MS_MIN &&
		   q->hook_timeout_ms <= REQUEST_HOOK_MS_MAX);
	FUZZ_CHECK(!q->limit_read || q->limit_read >= REQUEST_LIMIT_MIN);
	FUZZ_CHECK(!q->limit_write || q->limit_write >= REQUEST_LIMIT_MIN);
	FUZZ_CHECK(q->threads <= REQUEST_THREADS_MAX && q->output_fd < 0);
	FUZZ_CHECK(!q->chunk_shift || (q->chunk_shift >= AMBRO_CHUNK_SHIFT_MIN &&
				       q->chunk_shift <= AMBRO_CHUNK_SHIFT_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct capture_request q;
	sd_bus_message *m = NULL;
	struct err e = { 0 };
	char text[256];
	bool other = take_byte(&in) & 1;
	int r;

	FUZZ_CHECK(sd_bus_message_new_method_call(make_bus(), &m, "a.b", "/", "a.b", "Capture") >=
		   0);
	/* rarely something else than what is asked for */
	if (other) {
		r = sd_bus_message_append(m, "u", take_u32(&in));
	} else {
		r = sd_bus_message_append(m, "s", take_text(&in, text));
		if (r >= 0)
			r = append_options(m, &in);
	}
	if (r >= 0)
		r = sd_bus_message_seal(m, 1, 0);
	if (r >= 0)
		r = sd_bus_message_rewind(m, true);
	if (r >= 0) {
		r = request_read(m, &q, &e);
		FUZZ_CHECK(r >= 0 || *e.text);
		if (r >= 0)
			check_request(&q);
	}
	sd_bus_message_unref(m);
	return 0;
}
