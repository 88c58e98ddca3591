/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-parent - increments by hand: a client that has the parent as an image in a file, and what becomes of the
 * delta stream.
 *
 *	tool-parent capture [OPTION]… SOURCE PARENT OUT
 *		ask the agent at $AMBRO_SOCKET for an increment of SOURCE against the image PARENT, into the new file OUT;
 *		prints one line of JSON: state, increment, reason, read, error. Exits 0 when the capture was done.
 *		PARENT "-": none, a whole image
 *	--strategy S, --chunk-shift N	as in docs/CONTROL.md
 *	--track TOKEN	the parent's manifest has this token
 *	--no-track	…or none
 *	--no-content	refuse to give chunks
 *	--cancel MS	cancel the capture after so long
 *	--hostile HOW	answer with: garbage, silence, short, long, manifest, page, hangup, slow
 *	tool-parent resolve PARENT DELTA RAW
 *		make the disk of both, as the new file RAW
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>
#include <systemd/sd-bus.h>

#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/image_reader.h"
#include "lib/image/parent_server.h"
#include "lib/image/record.h"

#define AGENT "org.ambrotype.Agent1"
#define JOB   "org.ambrotype.Job1"

struct tool {
	const char *strategy, *track, *hostile;
	bool no_track, no_content;
	unsigned int chunk_shift, cancel_ms;
	const char *source, *parent, *out;
	struct image_reader *image;
	char *manifest; /* as it is told */
	size_t manifest_len;
	struct codec *codec;
	void *frame;
	int line[2];
	unsigned int asked[4]; /* by kind */
};

static void die(const char *what, int r)
{
	fprintf(stderr, "tool-parent: %s: %s\n", what, strerror(-r));
	_exit(2);
}

static void die_err(const struct err *e)
{
	fprintf(stderr, "tool-parent: %s\n", e->text);
	_exit(2);
}

static struct image_reader *open_image(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct image_reader *r = NULL;
	struct err e = { 0 };

	if (fd < 0)
		die(path, -errno);
	if (image_reader_open(fd, &r, &e) < 0)
		die_err(&e);
	return r;
}

/* ---- the parent as it is told of ---- */

static void make_manifest(struct tool *t)
{
	struct manifest *m = (struct manifest *)image_reader_manifest(t->image);
	struct err e = { 0 };

	if (t->no_track || t->track) {
		free(m->track);
		m->track = t->track ? strdup(t->track) : NULL;
	}
	if (manifest_to_json(m, &t->manifest, &t->manifest_len, &e) < 0)
		die_err(&e);
}

static int tell_manifest(void *ctx, const char **ret, size_t *ret_len)
{
	struct tool *t = ctx;

	t->asked[PARENT_MANIFEST]++;
	*ret = t->manifest;
	*ret_len = t->manifest_len;
	return 0;
}

static ssize_t tell_page(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct tool *t = ctx;
	const struct manifest *m = image_reader_manifest(t->image);
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	const uint64_t first = number * AMBRO_PAGE_FANOUT;
	struct ambro_page head = { 0 };
	uint64_t chunks, count, at = 0;
	uint8_t *states = (uint8_t *)ret + sizeof(head);
	struct chunk_id *ids;
	struct err e = { 0 };

	t->asked[PARENT_PAGE]++;
	if (region >= m->n_regions)
		return -ENOENT;
	chunks = region_chunks(m->regions[region].length, m->chunk_size);
	if (first >= chunks)
		return -ENOENT;
	count = MIN(chunks - first, (uint64_t)AMBRO_PAGE_FANOUT);
	if (image_cursor_new(t->image, region, &c) < 0)
		return -ENOMEM;
	head.count = le32((uint32_t)count);
	memcpy(ret, &head, sizeof(head));
	ids = (struct chunk_id *)(states + count);
	while (at < count) {
		struct image_run run;
		int r = image_cursor_at(c, first + at, &run, &e);

		if (r <= 0)
			return r < 0 ? r : -EIO;
		for (uint64_t n = run.index + run.count - first - at; n && at < count; n--)
			states[at++] = (uint8_t)run.state;
		if (run.state == CHUNK_DATA)
			*ids++ = run.id;
	}
	return (uint8_t *)ids - (uint8_t *)ret;
}

static ssize_t image_chunk(struct tool *t, uint32_t region, uint64_t number, void *ret)
{
	const struct manifest *m = image_reader_manifest(t->image);
	_cleanup_(image_cursor_freep) struct image_cursor *c = NULL;
	struct image_run run;
	struct err e = { 0 };
	int r;

	if (region >= m->n_regions ||
	    number >= region_chunks(m->regions[region].length, m->chunk_size))
		return -ENOENT;
	if (image_cursor_new(t->image, region, &c) < 0)
		return -ENOMEM;
	r = image_cursor_at(c, number, &run, &e);
	if (r <= 0)
		return r < 0 ? r : -EIO;
	if (run.state != CHUNK_DATA)
		return -ENOENT;
	r = image_reader_chunk(t->image, &run, t->codec, t->frame, ret, &e);
	return r < 0 ? r : (ssize_t)run.plain_len;
}

static ssize_t tell_chunk(void *ctx, uint32_t region, uint64_t number, void *ret)
{
	struct tool *t = ctx;

	t->asked[PARENT_CHUNK]++;
	return t->no_content ? -EACCES : image_chunk(t, region, number, ret);
}

/* ---- the same, by one who wants harm ---- */

static void say(int fd, uint32_t status, uint64_t length, const void *data, size_t len)
{
	struct parent_answer a = { .status = le32(status), .length = le64(length) };

	memcpy(a.magic, PARENT_MAGIC, sizeof(a.magic));
	if (send(fd, &a, sizeof(a), MSG_NOSIGNAL) > 0 && len)
		(void)!send(fd, data, len, MSG_NOSIGNAL);
}

static void hostile_answer(struct tool *t, const struct parent_request *q)
{
	const bool first = le32_get(q->kind) == PARENT_MANIFEST;
	uint8_t noise[4096];
	int fd = t->line[0];

	if (getrandom(noise, sizeof(noise), 0) < 0)
		return;
	if (!strcmp(t->hostile, "garbage")) {
		(void)!send(fd, noise, sizeof(noise), MSG_NOSIGNAL);
	} else if (!strcmp(t->hostile, "silence")) {
		return;
	} else if (!strcmp(t->hostile, "short")) {
		say(fd, 0, 1 << 20, noise, 100);
		shutdown(fd, SHUT_WR);
	} else if (!strcmp(t->hostile, "long")) {
		say(fd, 0, UINT64_MAX, noise, sizeof(noise));
	} else if (!strcmp(t->hostile, "hangup")) {
		shutdown(fd, SHUT_RDWR);
	} else if (first && strcmp(t->hostile, "manifest") != 0) {
		say(fd, 0, t->manifest_len, t->manifest, t->manifest_len);
	} else if (strcmp(t->hostile, "slow") != 0) {
		say(fd, 0, sizeof(noise), noise, sizeof(noise));
	} else {
		/* slow: says that much comes, and sends a byte now and then */
		say(fd, 0, AMBRO_PAGE_MAX, noise, 1);
		while (send(fd, noise, 1, MSG_NOSIGNAL) > 0)
			usleep(100000);
	}
}

static void *serve(void *arg)
{
	static const struct parent_server_ops ops = { tell_manifest, tell_page, tell_chunk };
	struct tool *t = arg;
	struct parent_request q;
	struct err e = { 0 };

	if (!t->hostile) {
		if (parent_serve(t->line[0], &ops, t, &e) < 0)
			die_err(&e);
		return NULL;
	}
	while (recv(t->line[0], &q, sizeof(q), MSG_WAITALL) == (ssize_t)sizeof(q))
		hostile_answer(t, &q);
	return NULL;
}

/* ---- the capture ---- */

static int call_capture(struct tool *t, sd_bus *bus, int out, char **ret_job)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	const char *job;
	int r;

	r = sd_bus_message_new_method_call(bus, &m, AGENT, "/org/ambrotype/Agent1", AGENT,
					   "Capture");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", t->source);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && t->image)
		r = sd_bus_message_append(m, "{sv}", "parent", "h", t->line[1]);
	if (r >= 0 && t->strategy)
		r = sd_bus_message_append(m, "{sv}", "strategy", "s", t->strategy);
	if (r >= 0 && t->chunk_shift)
		r = sd_bus_message_append(m, "{sv}", "chunk_shift", "u", t->chunk_shift);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "h", out);
	if (r < 0)
		die("message", r);
	r = sd_bus_call(bus, m, 0, &error, &reply);
	if (r < 0) {
		fprintf(stderr, "tool-parent: %s\n", error.message);
		return r;
	}
	r = sd_bus_message_read(reply, "o", &job);
	*ret_job = strdup(job);
	return r;
}

static void wait_finished(struct tool *t, sd_bus *bus, const char *job, char **ret_state,
			  char **ret_error)
{
	const uint64_t begun = io_now_ns();
	bool cancelled = false;

	for (;;) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
		const char *state, *text;
		int32_t code;
		int r = sd_bus_process(bus, &m);

		if (r < 0)
			die("the agent", r);
		if (m && sd_bus_message_is_signal(m, JOB, "Finished") &&
		    !strcmp(sd_bus_message_get_path(m), job)) {
			if (sd_bus_message_read(m, "sis", &state, &code, &text) < 0)
				die("Finished", -EBADMSG);
			*ret_state = strdup(state);
			*ret_error = strdup(text);
			return;
		}
		if (t->cancel_ms && !cancelled &&
		    io_now_ns() - begun > (uint64_t)t->cancel_ms * 1000000) {
			sd_bus_call_method(bus, AGENT, "/org/ambrotype/Agent1", AGENT, "Cancel",
					   NULL, NULL, "o", job);
			cancelled = true;
		}
		if (!r)
			sd_bus_wait(bus, 100000);
	}
}

static char *job_text(sd_bus *bus, const char *job, const char *name)
{
	char *text = NULL;

	sd_bus_get_property_string(bus, AGENT, job, JOB, name, NULL, &text);
	return text;
}

static uint64_t job_number(sd_bus *bus, const char *job, const char *name)
{
	uint64_t n = 0;

	sd_bus_get_property_trivial(bus, AGENT, job, JOB, name, NULL, 't', &n);
	return n;
}

static sd_bus *open_bus(void)
{
	char address[256];
	sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread so far */
	snprintf(address, sizeof(address), "unix:path=%s", getenv("AMBRO_SOCKET"));
	if (r >= 0)
		r = sd_bus_negotiate_fds(bus, true);
	if (r >= 0)
		r = sd_bus_set_address(bus, address);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r < 0)
		die(address, r);
	return bus;
}

static int capture(struct tool *t)
{
	char *job = NULL, *state = NULL, *error = NULL;
	int out = open(t->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	sd_bus *bus = open_bus();
	pthread_t thread;
	json_t *told;

	if (out < 0)
		die(t->out, -errno);
	if (strcmp(t->parent, "-") != 0) {
		t->image = open_image(t->parent);
		make_manifest(t);
		t->frame = malloc(image_reader_frame_max(t->image));
	}
	if (codec_new(0, &t->codec) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t->line) < 0 ||
	    pthread_create(&thread, NULL, serve, t) != 0)
		die("set-up", -ENOMEM);
	if (call_capture(t, bus, out, &job) < 0)
		return 1;
	close(t->line[1]);
	wait_finished(t, bus, job, &state, &error);
	/* the agent has closed its end by now */
	pthread_join(thread, NULL);
	told = json_pack("{s:s,s:s,s:s*,s:s*,s:s*,s:I,s:i,s:i}", "state", state, "error", error,
			 "increment", job_text(bus, job, "Increment"), "reason",
			 job_text(bus, job, "IncrementReason"), "strategy",
			 job_text(bus, job, "Strategy"), "read",
			 (json_int_t)job_number(bus, job, "BytesRead"), "pages",
			 (int)t->asked[PARENT_PAGE], "chunks", (int)t->asked[PARENT_CHUNK]);
	json_dumpf(told, stdout, JSON_COMPACT);
	puts("");
	if (strcmp(state, "done") != 0)
		fprintf(stderr, "tool-parent: %s: %s\n", state, error);
	return strcmp(state, "done") != 0;
}

/* ---- the resolver ---- */

struct resolver {
	struct tool *t;
	const struct manifest *m; /* the parent's, whose shape both have */
	int in, out;
	uint64_t at;
	uint8_t *plain;
	struct codec *codec;
	bool *same[64]; /* by region: is chunk n the parent's? */
	uint64_t counts[5];
};

static uint64_t chunk_offset(const struct resolver *r, uint32_t region, uint64_t index)
{
	return r->m->regions[region].start + index * r->m->chunk_size;
}

static uint32_t chunk_len(const struct resolver *r, uint32_t region, uint64_t index)
{
	return region_chunk_len(r->m->regions[region].length, r->m->chunk_size, index);
}

static void put_zeros(struct resolver *r, uint32_t region, uint64_t index)
{
	const uint32_t len = chunk_len(r, region, index);

	memset(r->plain, 0, len);
	if (io_pwrite_all(r->out, r->plain, len, chunk_offset(r, region, index)) < 0)
		die("write", -EIO);
}

static void take_run(struct resolver *r, const struct ambro_run *run)
{
	const uint32_t region = le32_get(run->region);
	const uint64_t first = le64_get(run->index), count = le64_get(run->count);

	if (region >= r->m->n_regions || run->state > CHUNK_SAME || le64_get(run->frames_len))
		die("RUN", -EBADMSG);
	for (uint64_t i = first; i < first + count; i++) {
		r->same[region][i] = run->state == CHUNK_SAME;
		if (run->state != CHUNK_SAME)
			put_zeros(r, region, i);
	}
	r->counts[run->state] += count;
}

static void take_chunk(struct resolver *r, const struct ambro_chunk *c)
{
	const uint32_t region = le32_get(c->region), len = le32_get(c->frame_len);
	const uint64_t index = le64_get(c->index);
	_cleanup_free_ void *frame = malloc(len);
	struct chunk_id id;

	if (region >= r->m->n_regions || io_pread_all(r->in, frame, len, r->at) < 0 ||
	    codec_decompress(r->codec, frame, len, r->plain, le32_get(c->plain_len)) < 0)
		die("CHUNK", -EBADMSG);
	chunk_id_of(r->plain, le32_get(c->plain_len), &id);
	if (!chunk_id_equal(&id, &c->id) || le32_get(c->plain_len) != chunk_len(r, region, index))
		die("CHUNK's id", -EBADMSG);
	r->at += len;
	r->same[region][index] = false;
	r->counts[CHUNK_DATA]++;
	if (io_pwrite_all(r->out, r->plain, le32_get(c->plain_len),
			  chunk_offset(r, region, index)) < 0)
		die("write", -EIO);
}

/* The next record; false at the INDEX. */
static bool take_record(struct resolver *r)
{
	struct record_head h;
	struct ambro_header header;
	struct ambro_chunk chunk;
	struct ambro_run run;
	uint64_t len;

	if (io_pread_all(r->in, &h, sizeof(h), r->at) < 0)
		die("record", -EBADMSG);
	len = record_body_len(&h);
	switch (h.record.type) {
	case AMBRO_RECORD_HEADER:
		if (io_pread_all(r->in, &header, sizeof(header), r->at + sizeof(h)) < 0 ||
		    le64_get(header.require_features) !=
			    (AMBRO_REQUIRE_RESENT | AMBRO_REQUIRE_SPARSE | AMBRO_REQUIRE_PARENT))
			die("HEADER: no delta stream", -EBADMSG);
		r->at += sizeof(h) + len + AMBRO_GUARD_SIZE;
		return true;
	case AMBRO_RECORD_RUN:
		if (io_pread_all(r->in, &run, sizeof(run), r->at + sizeof(h)) < 0)
			die("RUN", -EBADMSG);
		r->at += sizeof(h) + len;
		take_run(r, &run);
		return true;
	case AMBRO_RECORD_CHUNK:
		if (io_pread_all(r->in, &chunk, sizeof(chunk), r->at + sizeof(h)) < 0)
			die("CHUNK", -EBADMSG);
		r->at += sizeof(h) + len;
		take_chunk(r, &chunk);
		return true;
	case AMBRO_RECORD_PAGE:
		r->at += sizeof(h) + len;
		return true;
	default:
		return h.record.type != AMBRO_RECORD_INDEX ? (die("record", -EBADMSG), false)
							   : false;
	}
}

static void resolve_same(struct resolver *r)
{
	for (uint32_t i = 0; i < r->m->n_regions; i++) {
		const uint64_t n = region_chunks(r->m->regions[i].length, r->m->chunk_size);

		for (uint64_t k = 0; k < n; k++) {
			ssize_t len;

			if (!r->same[i][k])
				continue;
			len = image_chunk(r->t, i, k, r->plain);
			if (len == -ENOENT) {
				put_zeros(r, i, k);
			} else if (len < 0 || io_pwrite_all(r->out, r->plain, (size_t)len,
							    chunk_offset(r, i, k)) < 0) {
				die("the parent's chunk", (int)len);
			}
		}
	}
}

static int resolve(struct tool *t, const char *delta)
{
	struct resolver r = { .t = t };

	t->image = open_image(t->parent);
	t->frame = malloc(image_reader_frame_max(t->image));
	r.m = image_reader_manifest(t->image);
	r.in = open(delta, O_RDONLY | O_CLOEXEC);
	r.out = open(t->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r.plain = malloc(r.m->chunk_size);
	if (r.in < 0 || r.out < 0 || !r.plain || !t->frame || codec_new(0, &t->codec) < 0 ||
	    codec_new(0, &r.codec) < 0 || r.m->n_regions > ARRAY_SIZE(r.same) ||
	    ftruncate(r.out, (off_t)r.m->disk_size) < 0)
		die("set-up", -EIO);
	for (size_t i = 0; i < r.m->n_regions; i++) {
		r.same[i] = calloc(region_chunks(r.m->regions[i].length, r.m->chunk_size),
				   sizeof(bool));
		if (!r.same[i])
			die("set-up", -ENOMEM);
	}
	while (take_record(&r))
		;
	resolve_same(&r);
	printf("{\"free\":%" PRIu64 ",\"zero\":%" PRIu64 ",\"data\":%" PRIu64 ",\"bad\":%" PRIu64
	       ",\"same\":%" PRIu64 "}\n",
	       r.counts[0], r.counts[1], r.counts[2], r.counts[3], r.counts[4]);
	return 0;
}

static bool parse(int argc, char **argv, struct tool *t)
{
	static const struct option options[] = {
		{ "strategy", required_argument, NULL, 's' },
		{ "chunk-shift", required_argument, NULL, 'c' },
		{ "track", required_argument, NULL, 't' },
		{ "no-track", no_argument, NULL, 'T' },
		{ "no-content", no_argument, NULL, 'C' },
		{ "cancel", required_argument, NULL, 'x' },
		{ "hostile", required_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			t->strategy = optarg;
			break;
		case 'c':
			t->chunk_shift = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 't':
			t->track = optarg;
			break;
		case 'T':
			t->no_track = true;
			break;
		case 'C':
			t->no_content = true;
			break;
		case 'x':
			t->cancel_ms = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'h':
			t->hostile = optarg;
			break;
		default:
			return false;
		}
	}
	return argc - optind == 4;
}

int main(int argc, char **argv)
{
	struct tool t = { 0 };
	int r;

	if (!parse(argc, argv, &t))
		die("usage: see the head of tool-parent.c", -EINVAL);
	argv += optind;
	t.out = argv[3];
	t.source = argv[1];
	t.parent = argv[!strcmp(argv[0], "capture") ? 2 : 1];
	r = t.parent == argv[2] ? capture(&t) : resolve(&t, argv[2]);
	fflush(stdout);
	/* what it holds goes with it: nobody shall look for leaks */
	_exit(r);
}
