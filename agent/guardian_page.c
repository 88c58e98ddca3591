/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/guardian_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "agent/run_dir.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

/* ---- made ---------------------------------------------------------------------------------------- */

/* A locked file of the page's size with all its memory, or a negative errno. */
static int page_file(char path[static sizeof(((struct guardian_page *)NULL)->path)])
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	int r;

	mkdir(RUN_DIR, 0755);
	snprintf(path, sizeof(((struct guardian_page *)NULL)->path),
		 RUN_DIR "/" GUARDIAN_PAGE_PREFIX "XXXXXX");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* not ftruncate(): where /run is full a page that is touched later would be a SIGBUS */
	r = flock(fd, LOCK_EX | LOCK_NB) < 0
		    ? -errno
		    : -posix_fallocate(fd, 0, sizeof(struct guardian_page));
	/* between mkostemp() and flock() somebody may have taken it for an abandoned one */
	if (r >= 0 && (fstat(fd, &st) < 0 || st.st_nlink == 0))
		r = -EAGAIN;
	if (r < 0) {
		unlink(path);
		return r;
	}
	return TAKE_FD(fd);
}

static int page_memory(void)
{
	_cleanup_close_ int fd = memfd_create("ambro-guardian", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, sizeof(struct guardian_page)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int guardian_page_new(struct guardian_page **ret)
{
	char path[sizeof((*ret)->path)] = "";
	_cleanup_close_ int fd = page_file(path);
	struct guardian_page *p;

	if (fd < 0) {
		path[0] = 0;
		fd = page_memory();
	}
	if (fd < 0)
		return fd;
	p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		const int r = -errno;

		if (path[0])
			unlink(path);
		return r;
	}
	memcpy(p->path, path, sizeof(path));
	/* not its zero */
	memcpy(p->magic, GUARDIAN_PAGE_MAGIC, sizeof(p->magic));
	*ret = p;
	return TAKE_FD(fd);
}

void guardian_page_remove(const struct guardian_page *p)
{
	if (p->path[0])
		unlink(p->path);
}

void guardian_page_free(struct guardian_page *p)
{
	if (p)
		munmap(p, sizeof(*p));
}

/* ---- put back ------------------------------------------------------------------------------------- */

static void page_thaw_those(struct guardian_page *page, const int *fds, int state)
{
	for (uint32_t i = 0; i < page->mounts; i++) {
		int expected = state;

		if (atomic_load(&page->state[i]) != state)
			continue;
		ioctl(fds[i], FITHAW, 0);
		/* once only: whoever freezes it after this is not the agent (F5) */
		if (state == GUARDIAN_FROZEN)
			atomic_compare_exchange_strong(&page->state[i], &expected, GUARDIAN_THAWED);
	}
}

/*
 * A mount in GUARDIAN_FREEZING comes last: FITHAW waits for a FIFREEZE under way (s_umount), and that may itself wait for one of
 * the frozen (a loop device on it). On one that is not frozen it is a harmless EINVAL.
 */
void guardian_page_thaw(struct guardian_page *page, const int *fds)
{
	page_thaw_those(page, fds, GUARDIAN_FROZEN);
	page_thaw_those(page, fds, GUARDIAN_FREEZING);
}

void guardian_page_expire(struct guardian_page *page, const int *fds)
{
	bool first = !atomic_exchange(&page->expired, true);

	guardian_page_thaw(page, fds);
	if (first)
		atomic_store(&page->thawed_ns, io_now_ns());
}

int guardian_rcu_restore(void)
{
	return io_write_text(RCU_EXPEDITED_PATH, "0\n");
}
