/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-ackwriter - a witness. It keeps creating files that can be checked by themselves, makes each
 * durable (write, fsync, fsync of the directory) and only then acknowledges it in a file elsewhere:
 *
 *	SEQ PATH LENGTH START_NS END_NS		written between these times (CLOCK_REALTIME)
 *	-SEQ BEFORE_NS NEVER_NS			about to be unlinked: whoever dies now leaves it there, or not
 *	-SEQ BEFORE_NS AFTER_NS			unlinked between these times
 *
 * An image of the disk at one instant must hold every file whose END is before it, whole, no file whose
 * START is after it, and none whose unlink was over before it. `check` says whether it does.
 *
 * A file is a header (magic, sequence, length, start) and pseudo-random bytes that follow from the
 * sequence, so its content needs no other record.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define DIRS	    64 /* directories stay small enough for vfat's linear search */
#define THREADS_MAX 64
#define MAGIC	    0x4b4341574f524d41ULL
#define PATH_ROOM   4096
#define HEADER_ROOM sizeof(struct file_header)
#define NEVER_NS    UINT64_MAX

struct file_header {
	uint64_t magic;
	uint64_t seq;
	uint64_t length;
	uint64_t start_ns;
};

static const char *arg_dir;
static const char *arg_ack;
static uint64_t arg_threads = 2;
static uint64_t arg_size = 16384;
static uint64_t arg_rate = 200;
static uint64_t arg_delete = 20;
static uint64_t arg_seconds;
static uint64_t arg_instant;

static int ack_fd = -EBADF;
static int dir_fds[DIRS];
static atomic_uint_fast64_t next_seq;
static atomic_bool stop;

/* ---- content ------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* Half to one and a half times the size asked for, so that files end anywhere in a block. */
static uint64_t file_length(uint64_t seq)
{
	return HEADER_ROOM + arg_size / 2 + mix(seq) % (arg_size + 1);
}

static void file_fill(void *buf, uint64_t length, uint64_t seq, uint64_t start_ns)
{
	struct file_header h = { MAGIC, seq, length, start_ns };
	char *p = buf;

	memcpy(p, &h, sizeof(h));
	for (uint64_t i = sizeof(h); i < length; i += sizeof(uint64_t)) {
		uint64_t word = mix(seq * 0x100000001b3ULL + i);

		memcpy(p + i, &word, MIN(sizeof(word), length - i));
	}
}

static void file_name(char *buf, size_t size, uint64_t seq)
{
	(void)snprintf(buf, size, "d%02u/f%08" PRIu64, (unsigned int)(seq % DIRS), seq);
}

/* ---- write --------------------------------------------------------------------------------- */

struct writer {
	pthread_t thread;
	char *buf;
	uint64_t *live; /* sequences that exist, oldest first from @live_head */
	size_t live_head, live_count, live_room;
	uint32_t *took_us; /* of every write + fsync */
	size_t took_count, took_room;
	uint64_t deleted;
	unsigned int id;
	int error;
	char error_path[64];
};

static bool grow(void **items, size_t *room, size_t count, size_t item)
{
	size_t more = *room ? *room * 2 : 1024;
	void *p;

	if (count < *room)
		return true;
	p = reallocarray(*items, more, item);
	if (!p)
		return false;
	*items = p;
	*room = more;
	return true;
}

/* One line with one write(), so that lines of several threads do not mix. */
static int ack(const char *line, int len)
{
	return write(ack_fd, line, (size_t)len) == len ? 0 : -EIO;
}

static int put_file(const char *name, unsigned int dir, const void *buf, size_t len)
{
	char path[PATH_ROOM];
	_cleanup_close_ int fd = -EBADF;
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s", arg_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = io_write_all(fd, buf, len);
	if (r == 0 && (fsync(fd) < 0 || fsync(dir_fds[dir]) < 0))
		r = -errno;
	if (r < 0)
		(void)unlink(path);
	return r;
}

static int writer_add(struct writer *w)
{
	uint64_t seq = atomic_fetch_add(&next_seq, 1), length = file_length(seq), start, end;
	char name[64], line[160];
	int r, n;

	if (!grow((void **)&w->took_us, &w->took_room, w->took_count, sizeof(*w->took_us)) ||
	    !grow((void **)&w->live, &w->live_room, w->live_head + w->live_count, sizeof(*w->live)))
		return -ENOMEM;
	file_name(name, sizeof(name), seq);
	(void)snprintf(w->error_path, sizeof(w->error_path), "%s", name);
	start = io_realtime_ns();
	file_fill(w->buf, length, seq, start);
	r = put_file(name, seq % DIRS, w->buf, length);
	if (r < 0)
		return r;
	end = io_realtime_ns();
	w->took_us[w->took_count++] = (uint32_t)MIN((end - start) / 1000, UINT32_MAX);
	w->live[w->live_head + w->live_count++] = seq;
	n = snprintf(line, sizeof(line), "%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		     seq, name, length, start, end);
	return ack(line, n);
}

static int ack_removal(uint64_t seq, uint64_t before, uint64_t after)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "-%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", seq, before,
			 after);

	return ack(line, n);
}

static int writer_remove_oldest(struct writer *w)
{
	char name[64], path[PATH_ROOM];
	uint64_t seq, before;
	int r;

	if (w->live_count == 0)
		return 0;
	seq = w->live[w->live_head++];
	w->live_count--;
	file_name(name, sizeof(name), seq);
	(void)snprintf(path, sizeof(path), "%s/%s", arg_dir, name);
	before = io_realtime_ns();
	r = ack_removal(seq, before, NEVER_NS);
	if (r < 0)
		return r;
	if (unlink(path) < 0 || fsync(dir_fds[seq % DIRS]) < 0)
		return -errno;
	w->deleted++;
	return ack_removal(seq, before, io_realtime_ns());
}

static void sleep_until(uint64_t at_ns)
{
	struct timespec ts = { (time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000) };

	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint64_t period = arg_rate ? 1000000000ULL * arg_threads / arg_rate : 0;
	uint64_t due = io_now_ns() + period * w->id / arg_threads, dice = mix(w->id);

	while (!atomic_load(&stop)) {
		int r = writer_add(w);

		if (r == -ENOSPC && w->live_count > 0) {
			r = writer_remove_oldest(w);
		} else if (r == 0) {
			dice = mix(dice);
			if (dice % 100 < arg_delete)
				r = writer_remove_oldest(w);
		}
		if (r < 0) {
			w->error = r;
			kill(getpid(), SIGTERM);
			break;
		}
		/* late ones are not made up for: a stall must not turn into a burst */
		due = MAX(due + period, io_now_ns());
		sleep_until(due);
	}
	return NULL;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The time below which @percent of the sorted ones lie. */
static double ms_at(const uint32_t *sorted, size_t count, unsigned int percent)
{
	size_t place = count * percent / 100;

	return count ? sorted[MIN(place, count - 1)] / 1e3 : 0;
}

static int writers_report(struct writer *writers)
{
	_cleanup_free_ uint32_t *all = NULL;
	size_t count = 0, n = 0;
	uint64_t deleted = 0;
	int r = 0;

	for (uint64_t i = 0; i < arg_threads; i++)
		count += writers[i].took_count;
	all = calloc(count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (uint64_t i = 0; i < arg_threads; i++) {
		struct writer *w = &writers[i];

		for (size_t j = 0; j < w->took_count; j++)
			all[n++] = w->took_us[j];
		deleted += w->deleted;
		if (w->error < 0) {
			(void)fprintf(stderr, "tool-ackwriter: %s/%s: error %d\n", arg_dir,
				      w->error_path, -w->error);
			r = w->error;
		}
	}
	qsort(all, count, sizeof(*all), compare_u32);
	printf("{\"files\": %zu, \"deleted\": %" PRIu64
	       ", \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"worst_ms\": %.3f}\n",
	       count, deleted, ms_at(all, count, 50), ms_at(all, count, 99),
	       ms_at(all, count, 100));
	return r;
}

static int directories_open(void)
{
	_cleanup_close_ int top = -EBADF;
	char path[PATH_ROOM];

	for (unsigned int i = 0; i < DIRS; i++) {
		(void)snprintf(path, sizeof(path), "%s/d%02u", arg_dir, i);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		dir_fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir_fds[i] < 0)
			return -errno;
	}
	top = open(arg_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || fsync(top) < 0)
		return -errno;
	ack_fd = open(arg_ack, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return ack_fd < 0 ? -errno : 0;
}

static void wait_for_signal(void)
{
	struct timespec limit = { (time_t)arg_seconds, 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	/* no limit: a timeout of NULL waits for ever */
	(void)sigtimedwait(&set, NULL, arg_seconds ? &limit : NULL);
}

static int verb_write(void)
{
	struct writer writers[THREADS_MAX] = {};
	sigset_t set;
	int r;

	r = directories_open();
	if (r < 0)
		return r;
	/* every thread inherits the mask; only wait_for_signal() takes them */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (uint64_t i = 0; i < arg_threads; i++) {
		writers[i].id = (unsigned int)i;
		writers[i].buf = malloc(HEADER_ROOM + arg_size * 2);
		if (!writers[i].buf ||
		    pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]) != 0)
			return -ENOMEM;
	}
	wait_for_signal();
	atomic_store(&stop, true);
	for (uint64_t i = 0; i < arg_threads; i++)
		pthread_join(writers[i].thread, NULL);
	r = writers_report(writers);
	for (uint64_t i = 0; i < arg_threads; i++) {
		free(writers[i].buf);
		free(writers[i].live);
		free(writers[i].took_us);
	}
	return r;
}

/* ---- check --------------------------------------------------------------------------------- */

struct ack_record {
	uint64_t length;	/* 0: not acknowledged */
	uint64_t start, end;	/* of the write */
	uint64_t before, after; /* of the unlink; 0: none */
};

struct ack_list {
	struct ack_record *items; /* by sequence */
	size_t count;
};

static void list_clear(struct ack_list *l)
{
	free(l->items);
}

struct counts {
	uint64_t acked, ok, missing, corrupt, newer, undead, between;
};

enum file_state {
	FILE_MISSING,
	FILE_WHOLE,
	FILE_DAMAGED,
};

static int list_room(struct ack_list *l, uint64_t seq)
{
	size_t count = MAX(l->count * 2, (size_t)seq + 1024);
	struct ack_record *p;

	if (seq < l->count)
		return 0;
	if (seq > UINT32_MAX)
		return -EINVAL;
	p = reallocarray(l->items, count, sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + l->count, 0, (count - l->count) * sizeof(*p));
	l->items = p;
	l->count = count;
	return 0;
}

static int list_add_line(struct ack_list *l, const char *line)
{
	struct ack_record a = {};
	uint64_t seq;
	int r;

	// NOLINTNEXTLINE(cert-err34-c): our own writer's numbers, and the count is checked
	if (sscanf(line, "-%" SCNu64 " %" SCNu64 " %" SCNu64 "\n", &seq, &a.before, &a.after) ==
	    3) {
		r = list_room(l, seq);
		if (r < 0)
			return r;
		l->items[seq].before = a.before;
		l->items[seq].after = a.after;
		return 0;
	}
	// NOLINTNEXTLINE(cert-err34-c)
	if (sscanf(line, "%" SCNu64 " %*s %" SCNu64 " %" SCNu64 " %" SCNu64 "\n", &seq, &a.length,
		   &a.start, &a.end) != 4)
		return -EINVAL;
	r = list_room(l, seq);
	if (r < 0)
		return r;
	l->items[seq].length = a.length;
	l->items[seq].start = a.start;
	l->items[seq].end = a.end;
	return 0;
}

static int list_read(struct ack_list *l)
{
	_cleanup_file_ FILE *f = fopen(arg_ack, "re");
	_cleanup_free_ char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (!f)
		return -errno;
	while ((n = getline(&line, &room, f)) > 0) {
		int r;

		if (line[n - 1] != '\n')
			break; /* the writer was killed in the middle of it */
		r = list_add_line(l, line);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The header's start is taken where there is one: an unacknowledged file says itself when it began. */
static enum file_state file_check(uint64_t seq, uint64_t length, uint64_t *ret_start)
{
	_cleanup_free_ char *found = NULL, *want = NULL;
	_cleanup_close_ int fd = -EBADF;
	char name[64], path[PATH_ROOM];
	struct file_header h = {};
	struct stat st;

	file_name(name, sizeof(name), seq);
	(void)snprintf(path, sizeof(path), "%s/%s", arg_dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? FILE_MISSING : FILE_DAMAGED;
	if (io_pread_all(fd, &h, sizeof(h), 0) < 0 || h.magic != MAGIC || h.seq != seq)
		return FILE_DAMAGED;
	*ret_start = h.start_ns;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != h.length ||
	    (length && h.length != length) || h.length < HEADER_ROOM || h.length > 1U << 30)
		return FILE_DAMAGED;
	found = malloc(h.length);
	want = malloc(h.length);
	if (!found || !want || io_pread_all(fd, found, h.length, 0) < 0)
		return FILE_DAMAGED;
	file_fill(want, h.length, seq, h.start_ns);
	return memcmp(found, want, h.length) == 0 ? FILE_WHOLE : FILE_DAMAGED;
}

static void complain(const char *what, uint64_t seq, const struct ack_record *a)
{
	(void)fprintf(stderr,
		      "%s: %" PRIu64 " (written %" PRId64 " to %" PRId64 " us from the instant)\n",
		      what, seq, (int64_t)(a->start - arg_instant) / 1000,
		      (int64_t)(a->end - arg_instant) / 1000);
}

static void check_one(uint64_t seq, const struct ack_record *a, struct counts *c)
{
	bool due = a->length && a->end < arg_instant;
	uint64_t start = a->start;
	enum file_state s = file_check(seq, a->length, &start);

	if (start > arg_instant || (a->length && a->start > arg_instant)) {
		if (s != FILE_MISSING) {
			c->newer++;
			complain("newer", seq, a);
		}
	} else if (due && (!a->before || a->before > arg_instant)) {
		c->acked++;
		c->ok += s == FILE_WHOLE;
		c->missing += s == FILE_MISSING;
		c->corrupt += s == FILE_DAMAGED;
		if (s != FILE_WHOLE)
			complain(s == FILE_MISSING ? "missing" : "corrupt", seq, a);
	} else if (a->after && a->after < arg_instant) {
		if (s != FILE_MISSING) {
			c->undead++;
			complain("unlinked, but there", seq, a);
		}
	} else {
		c->between += s != FILE_MISSING;
	}
}

/* Files that were never acknowledged, because the writer ended before. */
static int check_unknown(const struct ack_list *l, struct counts *c)
{
	static const struct ack_record none;

	for (unsigned int i = 0; i < DIRS; i++) {
		_cleanup_dir_ DIR *d = NULL;
		char path[PATH_ROOM];
		struct dirent *entry;

		(void)snprintf(path, sizeof(path), "%s/d%02u", arg_dir, i);
		d = opendir(path);
		if (!d)
			return -errno;
		// NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
		while ((entry = readdir(d))) {
			uint64_t seq = strtoull(entry->d_name + 1, NULL, 10);

			if (entry->d_name[0] == 'f' && (seq >= l->count || !l->items[seq].length))
				check_one(seq, &none, c);
		}
	}
	return 0;
}

static int verb_check(void)
{
	_cleanup_(list_clear) struct ack_list l = {};
	struct counts c = {};
	int r;

	r = list_read(&l);
	if (r < 0)
		return r;
	for (size_t i = 0; i < l.count; i++) {
		if (l.items[i].length)
			check_one(i, &l.items[i], &c);
	}
	r = check_unknown(&l, &c);
	if (r < 0)
		return r;
	printf("{\"acked\": %" PRIu64 ", \"ok\": %" PRIu64 ", \"missing\": %" PRIu64
	       ", \"corrupt\": %" PRIu64 ", \"newer\": %" PRIu64 ", \"undead\": %" PRIu64
	       ", \"between\": %" PRIu64 "}\n",
	       c.acked, c.ok, c.missing, c.corrupt, c.newer, c.undead, c.between);
	return c.missing + c.corrupt + c.newer + c.undead > 0 ? -EBADMSG : 0;
}

/* ---- command line --------------------------------------------------------------------------- */

static int usage(void)
{
	(void)fputs(
		"usage: tool-ackwriter write DIR ACKFILE [--threads N] [--size BYTES] [--rate N]\n"
		"                      [--delete PERCENT] [--seconds N]\n"
		"       tool-ackwriter check DIR ACKFILE --instant NS\n",
		stderr);
	return 2;
}

static bool options_parse(int argc, char **argv)
{
	static uint64_t *const numbers[] = { &arg_threads, &arg_size,	 &arg_rate,
					     &arg_delete,  &arg_seconds, &arg_instant };
	static const struct option options[] = {
		{ "threads", required_argument, NULL, 0 },
		{ "size", required_argument, NULL, 1 },
		{ "rate", required_argument, NULL, 2 },
		{ "delete", required_argument, NULL, 3 },
		{ "seconds", required_argument, NULL, 4 },
		{ "instant", required_argument, NULL, 5 },
		{},
	};
	int c;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): before any thread
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return false;
		*numbers[c] = strtoull(optarg, NULL, 10);
	}
	return argc - optind == 3 && arg_threads >= 1 && arg_threads <= THREADS_MAX &&
	       arg_size <= 1U << 28;
}

int main(int argc, char **argv)
{
	int r;

	if (!options_parse(argc, argv))
		return usage();
	arg_dir = argv[optind + 1];
	arg_ack = argv[optind + 2];
	if (strcmp(argv[optind], "write") == 0) {
		r = verb_write();
	} else if (strcmp(argv[optind], "check") == 0 && arg_instant) {
		r = verb_check();
	} else {
		return usage();
	}
	if (r < 0 && r != -EBADMSG)
		(void)fprintf(stderr, "tool-ackwriter: %s: %s\n", arg_dir, strerrordesc_np(-r));
	return r < 0;
}
