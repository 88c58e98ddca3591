/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slow-disk - LD_PRELOAD: what is read from files below $SLOW_DISK takes as long as from a disk with one head.
 *
 * A read that goes on where the one before ended, in the same file, or so little behind it that the disk reads on, costs
 * its bytes at 150 MB/s; any other 8 ms more; and so does each file that was never read before (its inode). One read at a time. What was waited for is written to
 * $SLOW_DISK_REPORT at the end: "reads seeks files bytes".
 */
/* pread() is not to be renamed to pread64() here: both are defined below */
#undef _FILE_OFFSET_BITS
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SEEK_NS	   UINT64_C(8000000)
#define NS_PER_KIB UINT64_C(6827)
#define SKIP_MAX   (128 << 10)
#define FILES_MAX  65536

static pthread_mutex_t lock =
	PTHREAD_MUTEX_INITIALIZER; /* guards all of it; held while the disk is busy */
static ino_t files[FILES_MAX];
static uint64_t n_files, n_reads, n_seeks, n_bytes;
static ino_t head_file;
static off_t head_at;

static bool is_slow(int fd, struct stat *ret)
{
	static const char *dir;
	char link[32], path[PATH_MAX];
	ssize_t len;

	if (!dir)
		dir = getenv("SLOW_DISK");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (!dir || len < 0)
		return false;
	path[len] = 0;
	return !strncmp(path, dir, strlen(dir)) && fstat(fd, ret) == 0 && S_ISREG(ret->st_mode);
}

static bool is_new(ino_t file)
{
	uint64_t at = file % FILES_MAX;

	while (files[at] && files[at] != file)
		at = (at + 1) % FILES_MAX;
	if (files[at] == file || n_files == FILES_MAX - 1)
		return false;
	files[at] = file;
	n_files++;
	return true;
}

static void wait_for_disk(const struct stat *st, off_t offset, size_t len)
{
	uint64_t ns = len * NS_PER_KIB / 1024;
	struct timespec t;

	pthread_mutex_lock(&lock);
	n_reads++;
	n_bytes += len;
	if (is_new(st->st_ino))
		ns += SEEK_NS;
	if (st->st_ino == head_file && offset >= head_at && offset - head_at <= SKIP_MAX) {
		ns += (uint64_t)(offset - head_at) * NS_PER_KIB / 1024;
	} else {
		ns += SEEK_NS;
		n_seeks++;
	}
	head_file = st->st_ino;
	head_at = offset + (off_t)len;
	t = (struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };
	nanosleep(&t, NULL);
	pthread_mutex_unlock(&lock);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the library's begin with underscores */
ssize_t pread64(int fd, void *buf, size_t len, off_t offset)
{
	static ssize_t (*real)(int, void *, size_t, off_t);
	struct stat st;
	ssize_t n;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pread64");
	n = real(fd, buf, len, offset);
	if (n > 0 && is_slow(fd, &st))
		wait_for_disk(&st, offset, (size_t)n);
	return n;
}
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	return pread64(fd, buf, len, offset);
}

__attribute__((destructor)) static void report(void)
{
	const char *path = getenv("SLOW_DISK_REPORT");
	FILE *f = path ? fopen(path, "w") : NULL;

	if (!f)
		return;
	fprintf(f, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", n_reads, n_seeks, n_files,
		n_bytes);
	fclose(f);
}
