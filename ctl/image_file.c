/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int image_file_open(const char *path, struct image_file *ret, struct err *e)
{
	struct image_file f = { .path = path, .fd = -EBADF };
	struct stat st;
	int r;

	if (strcmp(path, "-") == 0) {
		return err_set(e, -ESPIPE,
			       "an image cannot be read from a pipe: its index is at its end; "
			       "save it to a file first (or use zstd -dc)");
	}
	f.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f.fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", path);
	if (fstat(f.fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		image_file_done(&f);
		return err_set(e, -ESPIPE, "%s is not a regular file", path);
	}
	r = image_reader_open(f.fd, &f.reader, e);
	if (r < 0) {
		err_prefix(e, "%s", path);
		image_file_done(&f);
		return r;
	}
	f.manifest = image_reader_manifest(f.reader);
	*ret = f;
	return 0;
}

void image_file_done(struct image_file *f)
{
	image_reader_free(f->reader);
	f->reader = NULL;
	f->fd = close_fd(f->fd);
}

char *image_file_time(uint64_t realtime_ns, char *buf, size_t size)
{
	time_t t = (time_t)(realtime_ns / 1000000000u);
	struct tm tm;

	if (!realtime_ns || !gmtime_r(&t, &tm) ||
	    !strftime(buf, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(buf, size, "unknown");
	return buf;
}

char *image_file_ratio(uint64_t disk_bytes, uint64_t stored_bytes, char *buf, size_t size)
{
	if (stored_bytes) {
		snprintf(buf, size, "%.1f : 1", (double)disk_bytes / (double)stored_bytes);
	} else {
		snprintf(buf, size, "-");
	}
	return buf;
}
