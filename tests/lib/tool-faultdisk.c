/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-faultdisk - a file whose reads fail where and as often as a test wants, to stand below a loop device.
 *
 *	tool-faultdisk BACKING FILE FAULTS
 *
 * FILE (an existing one) becomes a view of BACKING, through FUSE, until this process ends; when it is killed every
 * further read and write fails, as of a disk that was pulled out. Lines of FAULTS, read again whenever that
 * file has changed:
 *
 *	OFFSET LENGTH [TIMES]	reads that touch these bytes fail with EIO, so many times (default: always)
 *	slow MICROSECONDS	every read takes so much longer
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fuse.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"

#define MOST_BYTES  (128u << 10) /* of one read or write */
#define REQUEST_MAX (MOST_BYTES + 4096u)
#define FAULTS_MAX  16

struct fault {
	uint64_t start, length;
	unsigned long times;
};

struct faultdisk {
	int backing, channel;
	const char *faults_path;
	struct timespec faults_time;
	struct fault faults[FAULTS_MAX];
	size_t n_faults;
	unsigned long slow_us;
	uint8_t data[MOST_BYTES];
};

static void faults_parse(struct faultdisk *d, FILE *f)
{
	char line[128];

	d->n_faults = 0;
	d->slow_us = 0;
	while (fgets(line, sizeof(line), f) && d->n_faults < FAULTS_MAX) {
		struct fault *fault = &d->faults[d->n_faults];
		char *end;

		if (!strncmp(line, "slow ", 5)) {
			d->slow_us = strtoul(line + 5, NULL, 10);
			continue;
		}
		fault->start = strtoull(line, &end, 10);
		fault->length = strtoull(end, &end, 10);
		fault->times = strtoul(end, &end, 10);
		if (!fault->times)
			fault->times = ~0ul;
		d->n_faults += fault->length != 0;
	}
}

static void faults_refresh(struct faultdisk *d)
{
	_cleanup_file_ FILE *f = fopen(d->faults_path, "re");
	struct stat st;

	if (!f || fstat(fileno(f), &st) < 0 ||
	    !memcmp(&st.st_mtim, &d->faults_time, sizeof(st.st_mtim)))
		return;
	d->faults_time = st.st_mtim;
	faults_parse(d, f);
}

static bool faults_hit(struct faultdisk *d, uint64_t start, uint64_t length)
{
	for (size_t i = 0; i < d->n_faults; i++) {
		struct fault *f = &d->faults[i];

		if (!f->times || start >= f->start + f->length || f->start >= start + length)
			continue;
		f->times -= f->times != ~0ul;
		return true;
	}
	return false;
}

static int reply(struct faultdisk *d, const struct fuse_in_header *in, int error, const void *body,
		 size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + (error ? 0 : len)),
		.error = error,
		.unique = in->unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)body, error ? 0 : len } };

	/* ENOENT: whoever asked was interrupted meanwhile */
	return writev(d->channel, iov, 2) < 0 && errno != ENOENT ? -errno : 0;
}

static int answer_init(struct faultdisk *d, const struct fuse_in_header *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_readahead = 0,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = MOST_BYTES,
		.max_pages = MOST_BYTES / 4096,
		.flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES,
		.time_gran = 1,
	};

	return reply(d, in, 0, &out, sizeof(out));
}

static int answer_getattr(struct faultdisk *d, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { .attr_valid = 3600 };
	struct stat st;

	if (fstat(d->backing, &st) < 0)
		return reply(d, in, -errno, NULL, 0);
	out.attr = (struct fuse_attr){
		.ino = FUSE_ROOT_ID,
		.size = (uint64_t)st.st_size,
		.blocks = (uint64_t)st.st_blocks,
		.mode = S_IFREG | 0600,
		.nlink = 1,
		.blksize = 4096,
	};
	return reply(d, in, 0, &out, sizeof(out));
}

static int answer_read(struct faultdisk *d, const struct fuse_in_header *in,
		       const struct fuse_read_in *q)
{
	ssize_t n;

	faults_refresh(d);
	if (d->slow_us)
		usleep((useconds_t)d->slow_us);
	if (faults_hit(d, q->offset, q->size))
		return reply(d, in, -EIO, NULL, 0);
	n = io_pread_some(d->backing, d->data, MIN(q->size, MOST_BYTES), q->offset);
	return reply(d, in, n < 0 ? (int)n : 0, d->data, n < 0 ? 0 : (size_t)n);
}

static int answer_write(struct faultdisk *d, const struct fuse_in_header *in,
			const struct fuse_write_in *q)
{
	struct fuse_write_out out = { .size = q->size };
	int r = io_pwrite_all(d->backing, q + 1, q->size, q->offset);

	return reply(d, in, r, &out, sizeof(out));
}

static int answer_fallocate(struct faultdisk *d, const struct fuse_in_header *in,
			    const struct fuse_fallocate_in *q)
{
	int r = fallocate(d->backing, (int)q->mode, (off_t)q->offset, (off_t)q->length);

	return reply(d, in, r < 0 ? -errno : 0, NULL, 0);
}

static int answer(struct faultdisk *d, const void *request)
{
	const struct fuse_in_header *in = request;
	const void *body = in + 1;
	/* not from the page cache: what a read gets is what this process says now */
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };

	switch (in->opcode) {
	case FUSE_INIT:
		return answer_init(d, in);
	case FUSE_GETATTR:
		return answer_getattr(d, in);
	case FUSE_OPEN:
		return reply(d, in, 0, &opened, sizeof(opened));
	case FUSE_READ:
		return answer_read(d, in, body);
	case FUSE_WRITE:
		return answer_write(d, in, body);
	case FUSE_FALLOCATE:
		return answer_fallocate(d, in, body);
	case FUSE_FSYNC:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		return reply(d, in, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return 0;
	default:
		return reply(d, in, -ENOSYS, NULL, 0);
	}
}

static int serve(struct faultdisk *d, const char *file)
{
	_cleanup_free_ void *request = malloc(REQUEST_MAX);
	char options[128];

	snprintf(options, sizeof(options), "fd=%d,rootmode=100600,user_id=0,group_id=0,max_read=%u",
		 d->channel, MOST_BYTES);
	if (!request || mount("faultdisk", file, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(d->channel, request, REQUEST_MAX);
		int r;

		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (n < 0)
			return errno == ENODEV ? 0 : -errno; /* ENODEV: it was unmounted */
		r = answer(d, request);
		if (r < 0)
			return r;
	}
}

int main(int argc, char **argv)
{
	static struct faultdisk d;
	int r;

	if (argc != 4) {
		fputs("usage: tool-faultdisk BACKING FILE FAULTS\n", stderr);
		return 2;
	}
	d.faults_path = argv[3];
	d.backing = open(argv[1], O_RDWR | O_CLOEXEC);
	d.channel = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (d.backing < 0 || d.channel < 0) {
		perror("tool-faultdisk");
		return d.channel < 0 ? 77 : 1;
	}
	r = serve(&d, argv[2]);
	if (r < 0)
		fprintf(stderr, "tool-faultdisk: %s\n", strerrordesc_np(-r));
	return r < 0;
}
