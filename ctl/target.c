/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/target.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include <linux/fs.h>

#include "ctl/holder.h"
#include "ctl/parttable.h"
#include "ctl/render.h"
#include "lib/base/io.h"
#include "lib/layout/sysblock.h"

/* Buffers are aligned to pages; a device that wants more of memory is not given O_DIRECT. */
#define TARGET_MEMORY_ALIGN 4096
/* Two seconds in all. */
#define TARGET_CLAIM_TRIES    40
#define TARGET_CLAIM_PAUSE_NS 50000000

static int target_too_small(const struct target *t, uint64_t need, struct err *e)
{
	char has[RENDER_MAX], wants[RENDER_MAX];

	return err_set(e, -EBUSY,
		       "%s is too small: it has %" PRIu64 " bytes (%s), the image needs %" PRIu64
		       " (%s)",
		       t->path, t->size, render_size(t->size, has), need, render_size(need, wants));
}

/* What makes a device unfit whoever uses it; @fd is open read-only. */
static int target_check_device(struct target *t, int fd, uint64_t need, int image_fd, struct err *e)
{
	char zoned[32], model[64], vendor[64];
	dev_t whole = sysblock_whole_or_self(t->device);
	int read_only = 0, sector = 0, r;

	t->is_partition = whole != t->device;
	if (holder_carries_fd(t->device, image_fd))
		return err_set(e, -EBUSY, "the image lies on %s itself", t->path);
	r = holder_of_device(t->device, t->path, e);
	if (r < 0)
		return r;
	if (ioctl(fd, BLKROGET, &read_only) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0)
		return err_set_errno(e, -errno, "%s does not answer", t->path);
	if (read_only)
		return err_set(e, -EBUSY, "%s is read-only", t->path);
	r = io_size(fd, &t->size);
	if (r < 0)
		return err_set_errno(e, r, "the size of %s", t->path);
	if (t->size < need)
		return target_too_small(t, need, e);
	sysblock_text(whole, "queue/zoned", zoned, sizeof(zoned));
	if (strcmp(zoned, "host-managed") == 0) {
		return err_set(e, -EBUSY, "%s is a zoned device, which takes no random writes",
			       t->path);
	}
	t->sector = (uint32_t)sector;
	t->align = (uint32_t)sector;
	sysblock_text(whole, "device/model", model, sizeof(model));
	sysblock_text(whole, "device/vendor", vendor, sizeof(vendor));
	snprintf(t->model, sizeof(t->model), "%s%s%s", vendor, *vendor && *model ? " " : "", model);
	return 0;
}

static int target_held(const struct target *t, struct err *e)
{
	char who[256];

	holder_processes(t->device, who, sizeof(who));
	return err_set(e, -EBUSY, "%s is held exclusively by somebody else%s%s", t->path,
		       *who ? ": " : "", who);
}

/*
 * A claim can outlive its process for a moment: the kernel ends a killed process's writes in the
 * background, and udev looks at disks that were closed.
 */
static void target_claim(struct target *t)
{
	const struct timespec pause = { .tv_nsec = TARGET_CLAIM_PAUSE_NS };

	for (int i = 0; i < TARGET_CLAIM_TRIES; i++) {
		t->fd = open(t->path, O_RDWR | O_EXCL | O_CLOEXEC | O_NONBLOCK);
		if (t->fd >= 0 || errno != EBUSY)
			return;
		nanosleep(&pause, NULL);
	}
	errno = EBUSY;
}

static int target_open_device(struct target *t, uint64_t need, int image_fd, struct err *e)
{
	_cleanup_close_ int look = open(t->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r;

	if (look < 0)
		return err_set_errno(e, -errno, "cannot open %s", t->path);
	if (fstat(look, &st) < 0 || !S_ISBLK(st.st_mode))
		return err_set(e, -ENOTBLK, "%s is not what it was", t->path);
	t->device = st.st_rdev;
	r = target_check_device(t, look, need, image_fd, e);
	if (r < 0)
		return r;
	target_claim(t);
	if (t->fd < 0 && errno == EBUSY)
		return target_held(t, e);
	if (t->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s for writing", t->path);
	if (fstat(t->fd, &st) < 0 || st.st_rdev != t->device)
		return err_set(e, -EBUSY, "%s changed while it was being opened", t->path);
	t->direct_fd = open(t->path, O_RDWR | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
	if (t->direct_fd < 0)
		return err_set_errno(e, -errno, "cannot open %s for direct writes", t->path);
	/* asks udev to leave the disk alone while it is half written; it is not bound to */
	(void)flock(t->fd, LOCK_EX | LOCK_NB);
	return 0;
}

/* A mistyped /dev/sdX must not become a file that fills the memory behind /dev. */
static int target_check_new_file(const char *path, struct err *e)
{
	_cleanup_free_ char *above = NULL, *dir = NULL;
	struct stat parent, dev;

	/* what is not there yet has no "..", but its directory has a "." */
	if (asprintf(&above, "%.*s.", (int)(strrchr(path, '/') ? strrchr(path, '/') - path + 1 : 0),
		     path) < 0) {
		above = NULL;
		return err_oom(e);
	}
	dir = realpath(above, NULL);
	if (!dir || stat(dir, &parent) < 0)
		return err_set_errno(e, -errno, "cannot create %s", path);
	if (strncmp(dir, "/dev", 4) == 0 && (!dir[4] || dir[4] == '/') && stat("/dev", &dev) == 0 &&
	    dev.st_dev == parent.st_dev)
		return err_set(e, -ENOENT, "there is no device %s", path);
	return 0;
}

static void target_find_direct(struct target *t)
{
	struct statx sx = { 0 };

	/* without an answer O_DIRECT may work or not, and may even be the page cache in disguise */
	if (statx(t->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) < 0 ||
	    !(sx.stx_mask & STATX_DIOALIGN) || !sx.stx_dio_offset_align ||
	    sx.stx_dio_mem_align > TARGET_MEMORY_ALIGN)
		return;
	t->direct_fd = open(t->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (t->direct_fd < 0) {
		t->direct_fd = -EBADF;
	} else {
		t->align = MAX(sx.stx_dio_offset_align, 512u);
	}
}

static int target_open_file(struct target *t, int image_fd, struct err *e)
{
	struct stat st, image;
	int r;

	t->is_file = true;
	t->sector = 512;
	t->align = 512;
	t->fd = open(t->path, O_RDWR | O_CLOEXEC);
	if (t->fd < 0 && errno == ENOENT) {
		r = target_check_new_file(t->path, e);
		if (r < 0)
			return r;
		t->fd = open(t->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		t->created = t->fd >= 0;
	}
	if (t->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s for writing", t->path);
	if (fstat(t->fd, &st) < 0 || fstat(image_fd, &image) < 0)
		return err_set_errno(e, -errno, "%s", t->path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -ENOTBLK, "%s is not what it was", t->path);
	if (st.st_dev == image.st_dev && st.st_ino == image.st_ino)
		return err_set(e, -EBUSY, "%s is the image itself", t->path);
	r = holder_of_file(t->fd, t->path, e);
	if (r < 0)
		return r;
	t->size = (uint64_t)st.st_size;
	t->fresh = st.st_size == 0;
	target_find_direct(t);
	return 0;
}

int target_open(const char *path, uint64_t need, int image_fd, struct target **ret, struct err *e)
{
	_cleanup_(target_freep) struct target *t = calloc(1, sizeof(*t));
	struct stat st;
	int r;

	if (!t)
		return err_oom(e);
	t->fd = t->direct_fd = -EBADF;
	t->path = strdup(path);
	if (!t->path)
		return err_oom(e);
	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return err_set_errno(e, -errno, "cannot look at %s", path);
		st.st_mode = S_IFREG;
	}
	if (S_ISBLK(st.st_mode)) {
		r = target_open_device(t, need, image_fd, e);
	} else if (S_ISREG(st.st_mode)) {
		r = target_open_file(t, image_fd, e);
	} else {
		r = err_set(e, -ENOTBLK, "%s is neither a block device nor a regular file", path);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void target_free(struct target *t)
{
	if (!t)
		return;
	if (t->created && t->fd >= 0)
		unlink(t->path);
	close_fd(t->direct_fd);
	close_fd(t->fd);
	free(t->path);
	free(t);
}

void target_require_unit(struct target *t, uint64_t unit)
{
	if (unit % t->align && t->direct_fd >= 0)
		t->direct_fd = close_fd(t->direct_fd);
}

int target_begin(struct target *t, uint64_t need, struct err *e)
{
	t->created = false;
	if (!t->is_file)
		return t->is_partition ? 0 : parttable_drop(t->fd, t->device, t->path, e);
	if (t->size >= need)
		return 0;
	if (ftruncate(t->fd, (off_t)need) < 0) {
		return err_set_errno(e, -errno, "cannot make %s %" PRIu64 " bytes long", t->path,
				     need);
	}
	t->size = need;
	return 0;
}

static int target_write_zeros(const struct target *t, uint64_t offset, uint64_t len, struct err *e)
{
	static const uint8_t zeros[1 << 20];

	while (len) {
		size_t n = (size_t)MIN(len, sizeof(zeros));
		int r = io_pwrite_all(t->fd, zeros, n, offset);

		if (r < 0) {
			return err_set_errno(e, r, "writing zeros at byte %" PRIu64 " of %s",
					     offset, t->path);
		}
		offset += n;
		len -= n;
	}
	return 0;
}

int target_zero(struct target *t, uint64_t offset, uint64_t len, struct err *e)
{
	uint64_t range[2] = { offset, len };
	int r;

	if (!len || t->fresh)
		return 0;
	if (atomic_load(&t->no_zeroout) || (!t->is_file && (offset | len) % t->sector))
		return target_write_zeros(t, offset, len, e);
	if (t->is_file) {
		r = fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			      (off_t)len);
	} else {
		r = ioctl(t->fd, BLKZEROOUT, range);
	}
	if (r == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOTTY) {
		return err_set_errno(e, -errno,
				     "zeroing %" PRIu64 " bytes at byte %" PRIu64 " of %s", len,
				     offset, t->path);
	}
	atomic_store(&t->no_zeroout, true);
	return target_write_zeros(t, offset, len, e);
}

int target_discard(struct target *t, uint64_t offset, uint64_t len, struct err *e)
{
	uint64_t end = ROUND_DOWN(offset + len, (uint64_t)t->sector);
	uint64_t start = ROUND_UP(offset, (uint64_t)t->sector);
	uint64_t range[2] = { start, end - start };
	int r;

	if (end <= start || t->fresh || atomic_load(&t->no_discard))
		return 0;
	if (t->is_file) {
		r = fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
			      (off_t)(end - start));
	} else {
		r = ioctl(t->fd, BLKDISCARD, range);
	}
	if (r == 0)
		return 1;
	/* a device that cannot, or does not want to: the bytes are of no interest, so it stays as it is */
	if (errno == EIO || errno == ENOSPC) {
		return err_set_errno(e, -errno,
				     "discarding %" PRIu64 " bytes at byte %" PRIu64 " of %s", len,
				     offset, t->path);
	}
	atomic_store(&t->no_discard, true);
	return 0;
}

int target_flush(struct target *t, struct err *e)
{
	if (fsync(t->fd) < 0)
		return err_set_errno(e, -errno, "writing %s to the medium", t->path);
	if (!t->is_file)
		(void)ioctl(t->fd, BLKFLSBUF, 0);
	return 0;
}

void target_drop_cache(const struct target *t)
{
	if (t->is_file) {
		(void)posix_fadvise(t->fd, 0, 0, POSIX_FADV_DONTNEED);
	} else {
		(void)ioctl(t->fd, BLKFLSBUF, 0);
	}
}
