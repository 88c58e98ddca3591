/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_repo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/capture_disk.h"
#include "ctl/repo_arg.h"
#include "lib/repo/repo_parent.h"
#include "lib/repo/repo_whole.h"

/* Of the pipe: one write of the agent's is a chunk. Less where an unprivileged user may not have so much. */
#define FEED_PIPE_SIZE (1 << 20)

/* ---- the repository ----------------------------------------------------------------------------- */

int capture_repo_open(struct capture_repo *r, struct err *e)
{
	char name[256] = "";
	int n;

	if (gethostname(name, sizeof(name) - 1) < 0)
		return err_set_errno(e, -errno, "this machine's name");
	r->host = repo_image_word(arg_repo.host ? arg_repo.host : name);
	if (!r->host)
		return err_oom(e);
	n = repo_arg_open(&arg_repo, REPO_ARG_CHUNKS, &r->repo, e);
	if (n < 0)
		return n;
	r->fd = open(arg_repo.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", arg_repo.path);
	return 0;
}

void capture_repo_done(struct capture_repo *r)
{
	repo_images_done(&r->images);
	if (r->repo)
		close_fd(r->fd);
	repo_free(r->repo);
	free((char *)r->host);
	*r = (struct capture_repo){ 0 };
}

static bool image_is_of(const struct repo_image *i, const char *host, const char *disk)
{
	return !strcmp(i->host, host) && !strcmp(i->disk, disk);
}

/* The newest image of the same disk. */
static int feed_parent_newest(struct capture_feed *f, struct capture_repo *r, struct err *e)
{
	int n = r->listed ? 0 : repo_images_load(r->repo, false, &r->images, e);

	if (n < 0)
		return n;
	r->listed = true;
	for (size_t i = r->images.count; i > 0 && !f->parent; i--) {
		if (image_is_of(r->images.items[i - 1], r->host, f->disk))
			f->parent = r->images.items[i - 1];
	}
	return 0;
}

/*
 * After a loss there is none: who lost one may have lost more of what was to be taken over. All this comes after the index
 * was loaded (W1 of gc_object.h).
 */
static int feed_parent(struct capture_feed *f, struct capture_repo *r, struct err *e)
{
	const struct repo_image *last = capture_state_image(&f->state);
	int n;

	if (r->full || f->state.lost)
		return 0;
	/* who may only add has no look at what is there, and what it needs in its own state (capture_state.h) */
	if (f->state.pages) {
		f->parent = capture_state_parent(&f->state);
	} else if (last && image_is_of(last, r->host, f->disk)) {
		/* the one that this machine put there last was read, where all would have to be to find the newest */
		f->parent = last;
	} else {
		n = feed_parent_newest(f, r, e);
		if (n < 0)
			return n;
	}
	/* one that lacks something would hand on the lack */
	n = f->parent ? repo_whole_parent(r->repo, f->parent, e) : 1;
	if (n == 0)
		f->parent = NULL;
	return MIN(n, 0);
}

/* ---- threads ------------------------------------------------------------------------------------ */

/* Called before the image is put: the agent may know better than the stream whether all is well. */
static int feed_gate(void *ctx)
{
	struct capture_feed *f = ctx;
	int decision;

	pthread_mutex_lock(&f->lock);
	while (!f->decision)
		pthread_cond_wait(&f->decided, &f->lock);
	decision = f->decision;
	pthread_mutex_unlock(&f->lock);
	return decision > 0 ? 0 : -ECANCELED;
}

static void feed_decide(struct capture_feed *f, int decision)
{
	pthread_mutex_lock(&f->lock);
	if (!f->decision)
		f->decision = decision;
	pthread_cond_broadcast(&f->decided);
	pthread_mutex_unlock(&f->lock);
}

/* Where the parent's pages are; NULL: in the repository. */
static const struct page_source *feed_pages(const struct capture_feed *f)
{
	return f->state.pages && f->parent ? &f->state.last->pages : NULL;
}

static void *feed_ingest(void *ctx)
{
	struct capture_feed *f = ctx;
	const bool keep = f->state.pages && f->state.last;
	const struct ingest_settings s = {
		.repo = f->owner->repo,
		.fd = f->stream_in,
		.host = f->owner->host,
		.disk = f->disk,
		.tags = f->owner->tags,
		.parent = f->parent,
		.parent_pages = feed_pages(f),
		.on_page = keep ? last_image_on_page : NULL,
		.on_page_ctx = f->state.last,
		.grace_ns = REPO_GRACE_NS,
		.cancel = &f->cancel,
		.before_commit = feed_gate,
		.before_commit_ctx = f,
	};

	f->result = ingest_run(&s, &f->image, &f->numbers, &f->err);
	/* the agent must not wait for a reader that is gone */
	f->stream_in = close_fd(f->stream_in);
	return NULL;
}

static void *feed_serve(void *ctx)
{
	_cleanup_(repo_parent_freep) struct repo_parent *parent = NULL;
	struct capture_feed *f = ctx;

	/* what goes wrong here the agent notices, and its capture fails */
	if (repo_parent_new(f->owner->repo, f->parent, feed_pages(f), &parent, NULL) >= 0)
		parent_serve(f->parent_in, &repo_parent_ops, parent, NULL);
	if (parent && repo_parent_failure(parent)->code)
		f->parent_err = *repo_parent_failure(parent);
	/* nobody waits for an answer that does not come */
	shutdown(f->parent_in, SHUT_RDWR);
	return NULL;
}

static int feed_pipes(struct capture_feed *f, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set_errno(e, -errno, "cannot make a pipe");
	f->stream_in = fds[0];
	f->stream_out = fds[1];
	fcntl(f->stream_out, F_SETPIPE_SZ, FEED_PIPE_SIZE);
	if (!f->parent)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_set_errno(e, -errno, "cannot make a pair of sockets");
	f->parent_in = fds[0];
	f->parent_out = fds[1];
	return 0;
}

static int feed_threads(struct capture_feed *f, struct err *e)
{
	int r;

	r = -pthread_create(&f->ingest_thread, NULL, feed_ingest, f);
	f->ingesting = r == 0;
	if (r == 0 && f->parent) {
		r = -pthread_create(&f->parent_thread, NULL, feed_serve, f);
		f->serving = r == 0;
	}
	return r < 0 ? err_set_errno(e, r, "cannot start a thread") : 0;
}

int capture_feed_begin(struct capture_feed *f, struct capture_repo *r, sd_bus *bus,
		       const char *source, const char *disk, struct err *e)
{
	int n;

	*f = (struct capture_feed){ .owner = r,
				    .stream_in = -EBADF,
				    .stream_out = -EBADF,
				    .parent_in = -EBADF,
				    .parent_out = -EBADF };
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->decided, NULL);
	n = cancel_init(&f->cancel);
	if (n < 0)
		return err_set_errno(e, n, "cannot make an eventfd");
	n = disk ? 0 : capture_disk_name(bus, source, &f->disk, e);
	if (disk) {
		f->disk = repo_image_word(disk);
		n = f->disk ? 0 : err_oom(e);
	}
	if (n < 0)
		return n;
	n = capture_state_open(&f->state, r->state_dir, r->repo, r->host, f->disk, e);
	if (n < 0)
		return n;
	n = feed_parent(f, r, e);
	if (n >= 0)
		n = feed_pipes(f, e);
	return n < 0 ? n : feed_threads(f, e);
}

void capture_feed_handed_over(struct capture_feed *f)
{
	f->stream_out = close_fd(f->stream_out);
	f->parent_out = close_fd(f->parent_out);
}

static void feed_join(struct capture_feed *f)
{
	if (f->ingesting)
		pthread_join(f->ingest_thread, NULL);
	f->ingesting = false;
	if (!f->serving)
		return;
	shutdown(f->parent_in, SHUT_RDWR);
	pthread_join(f->parent_thread, NULL);
	f->serving = false;
}

int capture_feed_commit(struct capture_feed *f, struct err *e)
{
	feed_decide(f, 1);
	feed_join(f);
	if (f->result < 0 && e)
		*e = f->err;
	if (f->result >= 0)
		capture_state_keep(&f->state, f->image);
	return f->result;
}

bool capture_feed_failed(struct capture_feed *f, struct err *e)
{
	feed_decide(f, -1);
	/* a stream that has its end, or none any more because the agent closed it */
	cancel_raise(&f->cancel);
	feed_join(f);
	if (f->parent_err.code) {
		*e = f->parent_err;
		return true;
	}
	if (f->result == 0 || f->result == -ECANCELED || f->result == -ENODATA)
		return false;
	*e = f->err;
	return true;
}

void capture_feed_done(struct capture_feed *f)
{
	if (!f->owner)
		return;
	capture_feed_handed_over(f);
	feed_decide(f, -1);
	cancel_raise(&f->cancel);
	feed_join(f);
	f->stream_in = close_fd(f->stream_in);
	f->parent_in = close_fd(f->parent_in);
	cancel_done(&f->cancel);
	pthread_cond_destroy(&f->decided);
	pthread_mutex_destroy(&f->lock);
	repo_image_free(f->image);
	capture_state_done(&f->state);
	free(f->disk);
	*f = (struct capture_feed){ 0 };
}
