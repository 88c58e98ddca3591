/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order of steps (invariants: freeze.h):
 *
 *  1. freeze_new()    open every mount point; give them to the guardian and hear from it
 *  2. freeze_sync()   syncfs each, until little is left
 *  3. freeze_begin()  a. note rcu_expedited in the state file, then set it
 *                     b. lock our pages in memory, go before other threads (pace.h)
 *                     c. write the deadline into the page, wake the guardian        (F1: armed)
 *                     d. where one may lie on another: FIFREEZE and FITHAW of each alone, first first
 *                     e. for each mount, last first: state FREEZING, FIFREEZE, state FROZEN
 *  4. the caller reads
 *  5. freeze_thaw()   a. for each frozen mount, first first: FITHAW, state THAWED
 *                     b. clear the deadline, wake the guardian
 *                     c. no longer go before others, unlock the pages
 *                     d. put rcu_expedited back, remove the state file
 *
 * Killed at any step: after 3c the guardian sees the end of its socket and does 5a and 5d; between 3a and 3c
 * it does 5d; what survives even that (both were killed), the state file and the guardian's page (guardian_page.h), is dealt
 * with by freeze_recover().
 */
#include "agent/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>

#include "agent/guardian.h"
#include "agent/pages.h"
#include "agent/run_dir.h"
#include "lib/base/io.h"

#define RCU_STATE_PATH RUN_DIR "/rcu_expedited"

/* A flush that took less leaves nothing behind that FIFREEZE would notice. */
#define SYNC_QUICK_NS 2000000u
#define SYNC_TIMES    4u

struct freeze_mount {
	int fd;
	char *path;
	pid_t pusher; /* of an XFS: the kernel's thread that empties its log; or 0 */
	bool unfreezable;
};

struct freeze {
	struct freeze_mount *mounts; /* in mount order */
	size_t count;
	uint64_t max_ns;
	struct guardian *guardian; /* the caller's, or `own` */
	struct guardian own;
	int *fds; /* of the mounts, for the guardian */
	uint64_t begin_ns, duration_ns, sync_ns;
	struct pace_place place; /* of the thread that froze, before it was in a hurry */
	bool hurried;
	bool stacked;  /* one of them may lie on another */
	bool standing; /* between freeze_begin() and freeze_thaw() */
};

/* rcu_expedited is one for the machine: the first freeze of this process sets it, the last restores. */
static pthread_mutex_t rcu_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int rcu_users;
static bool rcu_ours;

static void rcu_expedite(struct guardian_page *page)
{
	uint64_t value = 1;

	pthread_mutex_lock(&rcu_lock);
	if (rcu_users++ == 0 && io_read_u64(RCU_EXPEDITED_PATH, &value) == 0 && value == 0) {
		_cleanup_close_ int fd = -EBADF;

		mkdir(RUN_DIR, 0755);
		fd = open(RCU_STATE_PATH, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		atomic_store(&page->rcu_was_off, true);
		rcu_ours = fd >= 0 && io_write_text(RCU_EXPEDITED_PATH, "1\n") == 0;
	}
	/* a guardian of any freeze may be the one that has to clean up */
	atomic_store(&page->rcu_was_off, rcu_ours);
	pthread_mutex_unlock(&rcu_lock);
}

static void rcu_relax(struct guardian_page *page)
{
	pthread_mutex_lock(&rcu_lock);
	if (--rcu_users == 0 && rcu_ours) {
		rcu_ours = false;
		if (guardian_rcu_restore() == 0)
			unlink(RCU_STATE_PATH);
	}
	atomic_store(&page->rcu_was_off, false);
	pthread_mutex_unlock(&rcu_lock);
}

static int rcu_recover(void)
{
	int r;

	if (access(RCU_STATE_PATH, F_OK) < 0)
		return 0;
	r = guardian_rcu_restore();
	if (r < 0)
		return r;
	return unlink(RCU_STATE_PATH) < 0 ? -errno : 0;
}

int freeze_recover(void)
{
	const int thawed = guardian_page_recover(), rcu = rcu_recover();

	return rcu < 0 ? rcu : thawed;
}

/* Does @fd lead to the mount that was meant, and not to another one on top of it? */
static bool freeze_same_mount(int fd, int mount_id)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &sx) == 0 &&
	       (sx.stx_mask & STATX_MNT_ID) && sx.stx_mnt_id == (uint64_t)mount_id;
}

static int freeze_open_mount(struct freeze *f, const struct disk_mount *m, struct err *e)
{
	struct freeze_mount *mount = &f->mounts[f->count];

	mount->fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (mount->fd < 0) {
		return err_set_errno(e, -errno, "cannot open the mount point %s to freeze it",
				     m->path);
	}
	f->count++;
	if (!freeze_same_mount(mount->fd, m->mount_id)) {
		return err_set(
			e, -ESTALE,
			"the file system that is mounted on %s cannot be frozen: another one is "
			"mounted over it",
			m->path);
	}
	if (m->fs_type && strcmp(m->fs_type, "xfs") == 0)
		mount->pusher = pace_find_pusher(m->device);
	mount->path = strdup(m->path);
	return mount->path ? 0 : err_oom(e);
}

int freeze_new(const struct disk_mount *mounts, size_t count, unsigned int max_ms,
	       struct freeze **ret, struct err *e)
{
	return freeze_new_guarded(NULL, mounts, count, max_ms, ret, e);
}

int freeze_new_guarded(struct guardian *g, const struct disk_mount *mounts, size_t count,
		       unsigned int max_ms, struct freeze **ret, struct err *e)
{
	_cleanup_(freeze_freep) struct freeze *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_oom(e);
	f->guardian = g ? g : &f->own;
	f->max_ns = (uint64_t)max_ms * 1000000;
	f->mounts = calloc(count + 1, sizeof(*f->mounts));
	f->fds = calloc(count + 1, sizeof(*f->fds));
	if (!f->mounts || !f->fds)
		return err_oom(e);
	for (size_t i = 0; i < count; i++) {
		f->stacked |= count > 1 && !mounts[i].direct;
		r = freeze_open_mount(f, &mounts[i], e);
		if (r < 0)
			return r;
		f->fds[i] = f->mounts[i].fd;
	}
	r = guardian_hold(f->guardian, f->fds, (uint32_t)count, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

void freeze_free(struct freeze *f)
{
	if (!f)
		return;
	if (f->standing)
		freeze_thaw(f, NULL);
	/* before anything is closed that it, or its keeper, might thaw */
	guardian_let_go(f->guardian);
	guardian_stop(&f->own);
	for (size_t i = 0; i < f->count; i++) {
		close_fd(f->mounts[i].fd);
		free(f->mounts[i].path);
	}
	free(f->mounts);
	free(f->fds);
	free(f);
}

static int freeze_sync_once(struct freeze *f, struct err *e)
{
	for (size_t i = 0; i < f->count; i++) {
		if (syncfs(f->mounts[i].fd) < 0) {
			return err_set_errno(e, -errno, "cannot flush the file system on %s",
					     f->mounts[i].path);
		}
	}
	return 0;
}

int freeze_sync(struct freeze *f, struct err *e)
{
	uint64_t before = UINT64_MAX;

	/* each leaves what was written during the one before, as long as that becomes less */
	for (unsigned int i = 0; i < SYNC_TIMES; i++) {
		uint64_t began = io_now_ns();
		int r = freeze_sync_once(f, e);

		if (r < 0)
			return r;
		f->sync_ns = io_now_ns() - began;
		if (f->sync_ns < SYNC_QUICK_NS || f->sync_ns > before / 2)
			break;
		before = f->sync_ns;
	}
	return 0;
}

uint64_t freeze_sync_ns(const struct freeze *f)
{
	return f->sync_ns;
}

/* FIFREEZE; for an XFS on one processor with the thread that it will wait for. */
static int freeze_ioctl(struct freeze *f, const struct freeze_mount *m)
{
	struct pace_pusher *slot = &f->guardian->page->pusher;
	bool joined = m->pusher && f->hurried && pace_join(slot, m->pusher);
	int r = ioctl(m->fd, FIFREEZE, 0) < 0 ? -errno : 0;

	if (joined)
		pace_part(slot);
	return r;
}

static int freeze_one(struct freeze *f, size_t i, struct err *e)
{
	struct freeze_mount *m = &f->mounts[i];
	atomic_int *state = &f->guardian->page->state[i];
	int r;

	if (freeze_expired(f)) {
		return err_set(e, -ETIME, "freezing took longer than allowed (%u ms)",
			       (unsigned int)(f->max_ns / 1000000));
	}
	atomic_store(state, GUARDIAN_FREEZING);
	r = freeze_ioctl(f, m);
	if (r == 0) {
		atomic_store(state, GUARDIAN_FROZEN);
		return 0;
	}
	atomic_store(state, GUARDIAN_IDLE);
	if (r == -EOPNOTSUPP) {
		m->unfreezable = true;
		return syncfs(m->fd) < 0 ? err_set_errno(e, -errno, "cannot flush %s", m->path) : 0;
	}
	if (r == -EBUSY)
		return err_set(e, -EBUSY, "%s is already frozen by somebody else", m->path);
	return err_set_errno(e, r, "cannot freeze the file system on %s", m->path);
}

/*
 * Where one file system lies on another of the set, a FIFREEZE of the upper one waits for ever when somebody
 * else has frozen the lower: nothing can end that wait but he. So ask the lower ones first, one by one.
 */
static int freeze_probe(struct freeze *f, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < f->count && f->stacked && r >= 0; i++) {
		atomic_int *state = &f->guardian->page->state[i];

		r = freeze_one(f, i, e);
		if (r >= 0 && atomic_load(state) == GUARDIAN_FROZEN)
			ioctl(f->mounts[i].fd, FITHAW, 0);
		atomic_store(state, GUARDIAN_IDLE);
	}
	return r;
}

int freeze_begin(struct freeze *f, struct err *e)
{
	int r = 0;

	rcu_expedite(f->guardian->page);
	pages_hold();
	f->hurried = pace_hurry(&f->place);
	atomic_store(&f->guardian->page->expired, false);
	atomic_store(&f->guardian->page->thawed_ns, 0);
	for (size_t i = 0; i < f->count; i++)
		f->mounts[i].unfreezable = false;
	f->standing = true;
	f->begin_ns = io_now_ns();
	atomic_store(&f->guardian->page->deadline_ns, f->begin_ns + f->max_ns);
	r = guardian_wake(f->guardian);
	r = r < 0 ? err_set_errno(e, r, "the guardian process is gone") : freeze_probe(f, e);
	for (size_t i = f->count; i > 0 && r >= 0; i--)
		r = freeze_one(f, i - 1, e);
	if (r < 0)
		freeze_thaw(f, NULL);
	return r;
}

int freeze_thaw(struct freeze *f, struct err *e)
{
	int r = 0;

	if (!f->standing)
		return 0;
	for (size_t i = 0; i < f->count; i++) {
		atomic_int *state = &f->guardian->page->state[i];

		if (atomic_load(state) != GUARDIAN_FROZEN)
			continue;
		if (ioctl(f->mounts[i].fd, FITHAW, 0) < 0 && r == 0) {
			r = err_set(e, -EINVAL, "%s was thawed by somebody else meanwhile",
				    f->mounts[i].path);
		}
		atomic_store(state, GUARDIAN_THAWED);
	}
	f->duration_ns = io_now_ns() - f->begin_ns;
	if (freeze_expired(f)) {
		uint64_t thawed = atomic_load(&f->guardian->page->thawed_ns);

		if (thawed)
			f->duration_ns = thawed - f->begin_ns;
		r = f->duration_ns < f->max_ns
			    ? err_set(e, -ETIME,
				      "the guardian process is gone, and so the file systems were "
				      "thawed before the last read was done")
			    : err_set(e, -ETIME,
				      "the file systems were thawed after %u ms, before the last "
				      "read was done",
				      (unsigned int)(f->max_ns / 1000000));
	}
	atomic_store(&f->guardian->page->deadline_ns, 0);
	guardian_wake(f->guardian);
	if (f->hurried)
		pace_relax(&f->place);
	pages_let_go();
	rcu_relax(f->guardian->page);
	f->standing = false;
	return r;
}

bool freeze_unfrozen(const struct freeze *f, size_t i)
{
	return f->mounts[i].unfreezable;
}

uint64_t freeze_duration_ns(const struct freeze *f)
{
	return f->duration_ns;
}

bool freeze_expired(const struct freeze *f)
{
	uint64_t deadline = atomic_load(&f->guardian->page->deadline_ns);

	/* by the clock too, for a guardian that was killed or stopped */
	return atomic_load(&f->guardian->page->expired) || (deadline && io_now_ns() > deadline);
}
