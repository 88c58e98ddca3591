/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-tracker VERB DISK [ARGUMENTS…] - the hands of tests/integration/tracker-*.sh: the tracker of
 * a real disk, driven from a shell. Without arguments there is nothing to do, and it says so.
 *
 *   open              take up or make the tracker; prints "new" or "resumed"
 *   era               open an era; prints it
 *   scan SINCE        prints "start length" in bytes, one extent a line
 *   doubt             prints the reason, or "none"
 *   hold              prints "holding", waits for a line, then as doubt
 *   stamp ERA TIMES   makes so many for it, prints the last
 *   stamped ERA HEX   prints "known" or "unknown"
 *   save FILE         what the kernel remembers of the tracker, into a new file
 *   load FILE         …and back, as when a virtual machine is reverted
 *   version           make the pin one of an agent whose map was another (TRACK_VERSION less 1)
 *   report REASON     as the program in the kernel does when it sees that (enum track_reason)
 *   remove
 *   exact SINCE BEFORE AFTER
 *                     every 64 KiB that differ between these two files were marked; prints counts
 *   race SECONDS      T3: writers write all the time while eras are opened and copied
 *   bench             how long the calls take
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fs.h>

#include <bpf/bpf.h>

#include "agent/bpffs.h"
#include "agent/track_identity.h"
#include "agent/tracker.h"
#include "ebpf/track.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"

#define CHUNK	((size_t)65536)
#define GRANULE ((size_t)1 << TRACK_GRANULE_SHIFT)
#define WRITERS \
	6 /* more than processors, so that they are preempted between submission and completion */
#define ROUND_NS 700000000ULL

static int fail(int r, const struct err *e)
{
	fprintf(stderr, "test-tracker: %s\n", e->text);
	return r < 0 ? 1 : r;
}

static int verb_open(struct tracker *t, char **args)
{
	puts(tracker_resumed(t) ? "resumed" : "new");
	return 0;
}

static int verb_era(struct tracker *t, char **args)
{
	struct err e = {};
	uint32_t era;
	int r = tracker_open_era(t, &era, &e);

	if (r < 0)
		return fail(r, &e);
	printf("%u\n", era);
	return 0;
}

static int verb_scan(struct tracker *t, char **args)
{
	_cleanup_extents_ struct extent_set set = {};
	int r = tracker_scan(t, (uint32_t)strtoul(args[0], NULL, 10), &set);

	if (r < 0)
		return 1;
	extent_for_each(e, &set)
		printf("%" PRIu64 " %" PRIu64 "\n", e->start, e->length);
	return 0;
}

static int verb_doubt(struct tracker *t, char **args)
{
	struct err e = {};

	puts(tracker_doubt(t, &e) ? e.text : "none");
	return 0;
}

static int verb_hold(struct tracker *t, char **args)
{
	char line[16];

	puts("holding");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? verb_doubt(t, args) : 1;
}

/* ---- stamps, and a machine that goes back ---- */

static int verb_stamp(struct tracker *t, char **args)
{
	uint8_t stamp[TRACKER_STAMP_SIZE];
	char digits[2 * sizeof(stamp) + 1];
	struct err e = {};
	int r = 0;

	for (unsigned long n = strtoul(args[1], NULL, 10); n && r >= 0; n--)
		r = tracker_stamp(t, (uint32_t)strtoul(args[0], NULL, 10), stamp, &e);
	if (r < 0)
		return fail(r, &e);
	puts(hex_encode(stamp, sizeof(stamp), digits));
	return 0;
}

static int verb_stamped(struct tracker *t, char **args)
{
	uint8_t stamp[TRACKER_STAMP_SIZE];

	if (hex_decode(args[1], stamp, sizeof(stamp)) < 0)
		return 2;
	puts(tracker_stamped(t, (uint32_t)strtoul(args[0], NULL, 10), stamp) ? "known" : "unknown");
	return 0;
}

/* The pinned map @name of @disk, all of it; NULL and errno. */
static void *memory_map(dev_t disk, const char *name, size_t *ret_bytes)
{
	char path[BPFFS_PATH_MAX];
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int map = -EBADF;
	void *p;

	snprintf(path, sizeof(path), BPFFS_ROOT "/%u:%u/%s", major(disk), minor(disk), name);
	map = bpf_obj_get(path);
	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &len) < 0)
		return NULL;
	*ret_bytes = (size_t)info.value_size * info.max_entries;
	p = mmap(NULL, *ret_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* The pinned map @name of @disk, all of it, from @fd or to it. */
static int memory_pass(dev_t disk, const char *name, int fd, bool load)
{
	size_t bytes;
	ssize_t n;
	void *p = memory_map(disk, name, &bytes);

	if (!p)
		return -errno;
	n = load ? read(fd, p, bytes) : write(fd, p, bytes);
	munmap(p, bytes);
	return n == (ssize_t)bytes ? 0 : -EIO;
}

static int memory_all(char **args, bool load)
{
	static const char *const names[] = { "eras", "stamps", "report", "control" };
	_cleanup_close_ int fd =
		open(args[0], load ? O_RDONLY | O_CLOEXEC : O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		     0600);
	struct stat st;
	int r = 0;

	if (fd < 0 || stat(args[-1], &st) < 0) {
		perror(args[0]);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++)
		r = memory_pass(st.st_rdev, names[i], fd, load);
	if (r < 0)
		fprintf(stderr, "test-tracker: %s: %s\n", args[0], strerror(-r));
	return r < 0;
}

static int verb_save(struct tracker *t, char **args)
{
	return memory_all(args, false);
}

static int verb_load(struct tracker *t, char **args)
{
	return memory_all(args, true);
}

/* ---- an older agent's pin, and what the kernel's side would report ---- */

/* The disk of a verb, whose arguments follow it, and its map @name. */
static void *pinned(char **args, const char *name, size_t *ret_bytes)
{
	struct stat st;
	void *p = NULL;

	if (stat(args[-1], &st) == 0)
		p = memory_map(st.st_rdev, name, ret_bytes);
	if (!p)
		perror(name);
	return p;
}

static int verb_version(struct tracker *t, char **args)
{
	size_t bytes;
	struct track_control *c = pinned(args, "control", &bytes);

	if (!c)
		return 1;
	c->version = TRACK_VERSION - 1;
	munmap(c, bytes);
	return 0;
}

static int verb_report(struct tracker *t, char **args)
{
	unsigned long reason = strtoul(args[0], NULL, 10);
	struct track_report *p;
	size_t bytes;

	if (reason >= TRACK_REASONS)
		return 2;
	p = pinned(args, "report", &bytes);
	if (!p)
		return 1;
	p->doubt[reason]++;
	munmap(p, bytes);
	return 0;
}

/* ---- exact ---- */

static int verb_exact(struct tracker *t, char **args)
{
	uint32_t since = (uint32_t)strtoul(args[0], NULL, 10);
	_cleanup_close_ int before = open(args[1], O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int after = open(args[2], O_RDONLY | O_CLOEXEC);
	_cleanup_extents_ struct extent_set set = {};
	uint64_t changed = 0, missed = 0;
	static char a[CHUNK], b[CHUNK];

	if (before < 0 || after < 0 || tracker_scan(t, since, &set) < 0)
		return 1;
	for (uint64_t at = 0; at < tracker_size(t); at += CHUNK) {
		size_t n = MIN(CHUNK, tracker_size(t) - at);

		if (io_pread_all(before, a, n, at) < 0 || io_pread_all(after, b, n, at) < 0)
			return 1;
		if (memcmp(a, b, n) == 0)
			continue;
		changed++;
		if (!extent_set_overlaps(&set, at, n) || !tracker_touched(t, since, at, n)) {
			missed++;
			fprintf(stderr, "changed but not marked: %" PRIu64 "\n", at);
		}
	}
	printf("changed %" PRIu64 " marked %" PRIu64 " missed %" PRIu64 "\n", changed,
	       extent_set_total(&set) / CHUNK, missed);
	return missed || !changed;
}

/* ---- race ---- */

struct race {
	const char *path;
	uint64_t size;
	int fd;
	char *copy;
	atomic_bool stop;
	atomic_ulong writes;
};

/*
 * Writes at random: a granule is seldom written twice in an era, so no other mark hides a lost one.
 */
static void *race_writer(void *arg)
{
	struct race *race = arg;
	unsigned int seed = (unsigned int)(uintptr_t)&seed;
	_cleanup_close_ int fd = open(race->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	_cleanup_free_ uint64_t *data = aligned_alloc(4096, CHUNK);

	if (fd < 0 || !data)
		abort();
	while (!atomic_load(&race->stop)) {
		uint64_t n = atomic_fetch_add(&race->writes, 1);
		uint64_t chunk = (uint64_t)rand_r(&seed) % (race->size / CHUNK);

		for (size_t i = 0; i < CHUNK / sizeof(*data); i++)
			data[i] = n * 0x9e3779b97f4a7c15ULL + i;
		if (io_pwrite_all(fd, data, CHUNK, chunk * CHUNK) < 0)
			abort();
		/*
		 * so few that a pass has little to read: its time is what a write in flight must
		 * span
		 */
		usleep((useconds_t)rand_r(&seed) % 20000);
	}
	return NULL;
}

static int race_read(struct race *race, const struct extent_set *set)
{
	int r;

	extent_for_each(e, set) {
		r = io_pread_all(race->fd, race->copy + e->start, e->length, e->start);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Granules that differ from the copy although the tracker does not name them since @era. */
static int race_lost(struct race *race, struct tracker *t, uint32_t era)
{
	_cleanup_free_ char *now = aligned_alloc(4096, GRANULE);
	int lost = 0;

	if (!now)
		return -ENOMEM;
	for (uint64_t at = 0; at < race->size; at += GRANULE) {
		if (tracker_touched(t, era, at, GRANULE))
			continue;
		if (io_pread_all(race->fd, now, GRANULE, at) < 0)
			return -EIO;
		if (memcmp(now, race->copy + at, GRANULE) != 0)
			lost++;
	}
	return lost;
}

/*
 * The passes of a capture, each copying what the last era left, and the proof at the end of the
 * round.
 */
static int race_round(struct race *race, struct tracker *t, uint32_t *since)
{
	pthread_t writers[WRITERS];
	struct err e = {};
	uint64_t end = io_now_ns() + ROUND_NS;
	uint32_t era = *since;
	int r = 0;

	atomic_store(&race->stop, false);
	for (int i = 0; i < WRITERS; i++) {
		if (pthread_create(&writers[i], NULL, race_writer, race) != 0)
			abort();
	}
	while (r >= 0 && io_now_ns() < end) {
		_cleanup_extents_ struct extent_set set = {};

		*since = era;
		r = tracker_open_era(t, &era, &e);
		if (r >= 0)
			r = tracker_scan(t, *since, &set);
		if (r >= 0)
			r = race_read(race, &set);
	}
	atomic_store(&race->stop, true);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	*since = era;
	return r < 0 ? r : race_lost(race, t, era);
}

static int verb_race(struct tracker *t, char **args)
{
	uint64_t end = io_now_ns() + strtoull(args[0], NULL, 10) * 1000000000ULL;
	struct race race = { .path = args[-1], .size = ROUND_DOWN(tracker_size(t), GRANULE) };
	uint32_t since = tracker_era(t);
	int rounds = 0, lost = 0, r;

	race.fd = open(race.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	race.copy = aligned_alloc(4096, race.size);
	if (race.fd < 0 || !race.copy)
		return 1;
	r = io_pread_all(race.fd, race.copy, race.size, 0);
	while (r >= 0 && io_now_ns() < end) {
		r = race_round(&race, t, &since);
		lost += MAX(r, 0);
		rounds++;
	}
	printf("rounds %d writes %lu eras %u lost %d\n", rounds, atomic_load(&race.writes),
	       tracker_era(t), lost);
	free(race.copy);
	close_fd(race.fd);
	return r < 0 || lost;
}

/* ---- bench ---- */

static double since_ms(uint64_t began)
{
	return (double)(io_now_ns() - began) / 1e6;
}

static int verb_bench(struct tracker *t, char **args)
{
	_cleanup_extents_ struct extent_set set = {};
	double least = 1e9, most = 0, sum = 0;
	struct err e = {};
	uint64_t began;
	uint32_t era;

	for (int i = 0; i < 40; i++) {
		double ms;

		began = io_now_ns();
		if (tracker_open_era(t, &era, &e) < 0)
			return fail(1, &e);
		ms = since_ms(began);
		least = MIN(least, ms);
		most = MAX(most, ms);
		sum += ms;
		usleep(3000);
	}
	printf("open_era ms: min %.3f mean %.3f max %.3f\n", least, sum / 40, most);
	began = io_now_ns();
	if (tracker_scan(t, 1, &set) < 0)
		return 1;
	printf("scan ms: %.3f for %" PRIu64 " GiB, %zu extents\n", since_ms(began),
	       tracker_size(t) >> 30, set.count);
	began = io_now_ns();
	tracker_doubt(t, NULL);
	printf("doubt ms: %.3f\n", since_ms(began));
	return 0;
}

static const struct {
	const char *name;
	int n_args;
	int (*run)(struct tracker *t, char **args);
} verbs[] = {
	{ "open", 0, verb_open },	{ "era", 0, verb_era },
	{ "scan", 1, verb_scan },	{ "doubt", 0, verb_doubt },
	{ "exact", 3, verb_exact },	{ "race", 1, verb_race },
	{ "bench", 0, verb_bench },	{ "hold", 0, verb_hold },
	{ "stamp", 2, verb_stamp },	{ "save", 1, verb_save },
	{ "load", 1, verb_load },	{ "stamped", 2, verb_stamped },
	{ "version", 0, verb_version }, { "report", 1, verb_report },
};

static int run(const char *verb, dev_t disk, int n_args, char **args)
{
	_cleanup_(tracker_freep) struct tracker *t = NULL;
	struct err e = {};
	int r;

	if (strcmp(verb, "remove") == 0) {
		r = tracker_remove(disk, &e);
		return r < 0 ? fail(r, &e) : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, verb) != 0 || verbs[i].n_args != n_args)
			continue;
		r = tracker_open(disk, &t, &e);
		if (r < 0)
			return fail(r == -ENOTSUP ? 77 : r, &e);
		return verbs[i].run(t, args);
	}
	fprintf(stderr, "test-tracker: no such verb\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct stat st;

	if (argc < 3) {
		puts("skipped: needs a disk, tests/integration/tracker-*.sh give it one");
		return 77;
	}
	if (geteuid() != 0) {
		puts("skipped: needs root");
		return 77;
	}
	if (stat(argv[2], &st) < 0 || !S_ISBLK(st.st_mode)) {
		fprintf(stderr, "test-tracker: %s is no block device\n", argv[2]);
		return 1;
	}
	return run(argv[1], st.st_rdev, argc - 3, argv + 3);
}
