/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "lib/base/cleanup.h"

#define LISTENER_BACKLOG      16
#define LISTENER_LOCK_TRIES   50
#define LISTENER_LOCK_WAIT_US 100000

static int listener_address(const char *path, struct sockaddr_un *ret, struct err *e)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len >= sizeof(ret->sun_path)) {
		return err_set(e, -EINVAL,
			       "%s: a socket's path is absolute and shorter than %zu bytes", path,
			       sizeof(ret->sun_path));
	}
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret->sun_path, path, len + 1);
	return 0;
}

/*
 * The directory, locked: two agents that start at the same time must not both find a dead socket and remove
 * each other's new one. A lock on the directory leaves no file behind, unlike a lock file.
 */
static int listener_lock_dir(const char *path, int *ret_fd, struct err *e)
{
	_cleanup_free_ char *dir = strndup(path, (size_t)(strrchr(path, '/') - path));
	_cleanup_close_ int fd = -EBADF;

	if (!dir)
		return err_oom(e);
	if (*dir && mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_set_errno(e, -errno, "cannot make directory %s", dir);
	fd = open(*dir ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(e, -errno, "directory %s", dir);
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set_errno(e, -errno, "cannot lock directory %s", dir);
		if (i == LISTENER_LOCK_TRIES) {
			return err_set(e, -EADDRINUSE, "directory %s is locked by another process",
				       dir);
		}
		usleep(LISTENER_LOCK_WAIT_US);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Make room for a socket at the address, if what is there is dead. */
static int listener_clear(const struct sockaddr_un *sa, struct err *e)
{
	const char *path = sa->sun_path;
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set_errno(e, -errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s exists and is not a socket", path);
	/* non-blocking: EAGAIN means that its queue is full, so there is somebody */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_errno(e, -errno, "cannot make a socket");
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN)
		return err_set(e, -EADDRINUSE, "another ambrod is running (on %s)", path);
	if (errno != ECONNREFUSED)
		return err_set_errno(e, -errno, "%s", path);
	if (unlink(path) < 0)
		return err_set_errno(e, -errno, "cannot remove the dead socket %s", path);
	return 0;
}

/* For everyone: who may call is decided by who the kernel says they are. */
static int listener_bind(int fd, const struct sockaddr_un *sa, struct err *e)
{
	mode_t old = umask(0111);
	int r = bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;

	umask(old);
	if (r < 0)
		return err_set_errno(e, r, "cannot bind %s", sa->sun_path);
	if (listen(fd, LISTENER_BACKLOG) < 0)
		return err_set_errno(e, -errno, "cannot listen on %s", sa->sun_path);
	return 0;
}

int listener_open(const char *path, struct listener *ret, struct err *e)
{
	_cleanup_close_ int dir_fd = -EBADF, fd = -EBADF;
	_cleanup_free_ char *copy = strdup(path);
	struct sockaddr_un sa;
	struct stat st;
	int r;

	if (!copy)
		return err_oom(e);
	r = listener_address(path, &sa, e);
	if (r < 0)
		return r;
	r = listener_lock_dir(path, &dir_fd, e);
	if (r < 0)
		return r;
	r = listener_clear(&sa, e);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_errno(e, -errno, "cannot make a socket");
	r = listener_bind(fd, &sa, e);
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return err_set_errno(e, -errno, "%s", path);
	*ret = (struct listener){ TAKE_FD(fd), TAKE_PTR(copy), st.st_dev, st.st_ino };
	return 0;
}

int listener_take(int fd, struct listener *ret, struct err *e)
{
	int r = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0);
	int flags;

	if (r < 0)
		return err_set_errno(e, r, "the socket from systemd");
	if (r == 0) {
		return err_set(
			e, -EINVAL,
			"what systemd passed is not a listening Unix stream socket (ListenStream=)");
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set_errno(e, -errno, "the socket from systemd");
	*ret = (struct listener){ .fd = fd };
	return 0;
}

void listener_close(struct listener *l)
{
	struct stat st;

	/* only our own: somebody may have put another in its place */
	if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	l->fd = close_fd(l->fd);
	free(l->path);
	l->path = NULL;
}
