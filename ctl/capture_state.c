/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/base/hex.h"

#define STATE_OF_ROOT "/var/lib/ambro/state"
#define STATE_OF_USER "ambrotype"

/* ---- where it is ---------------------------------------------------------------------------------- */

/* Into @ret, allocated: "" when there is no place. */
static int state_place(const char *dir, char **ret, struct err *e)
{
	const char *xdg, *home;
	int n;

	/* NOLINTBEGIN(concurrency-mt-unsafe): nobody changes the environment */
	if (!dir)
		dir = getenv("AMBRO_STATE_DIR");
	xdg = getenv("XDG_STATE_HOME");
	home = getenv("HOME");
	/* NOLINTEND(concurrency-mt-unsafe) */
	if (dir || geteuid() == 0) {
		n = asprintf(ret, "%s", dir ? dir : STATE_OF_ROOT);
	} else if (xdg && *xdg == '/') {
		n = asprintf(ret, "%s/" STATE_OF_USER, xdg);
	} else if (home && *home == '/') {
		n = asprintf(ret, "%s/.local/state/" STATE_OF_USER, home);
	} else {
		n = asprintf(ret, "%s", "");
	}
	if (n < 0) {
		*ret = NULL;
		return err_oom(e);
	}
	while (n > 1 && (*ret)[n - 1] == '/')
		(*ret)[--n] = '\0';
	return 0;
}

/* Each folder of @path that is not there. What stands above the state's own is only to be passed through. */
static int state_make(char *path, size_t own, struct err *e)
{
	for (size_t i = 1; path[i - 1]; i++) {
		const char was = path[i];

		if (was != '/' && was != '\0')
			continue;
		path[i] = '\0';
		if (mkdir(path, i >= own ? 0700 : 0711) < 0 && errno != EEXIST)
			return err_set_errno(e, -errno, "cannot make %s", path);
		path[i] = was;
	}
	return 0;
}

/* From the state's own folder down nobody else may write. */
static int state_trust(char *path, size_t own, struct err *e)
{
	for (size_t i = own; path[i - 1]; i++) {
		const char was = path[i];
		struct stat st;
		int r;

		if (was != '/' && was != '\0')
			continue;
		path[i] = '\0';
		r = stat(path, &st) < 0 ? err_set_errno(e, -errno, "cannot look at %s", path) : 0;
		if (r == 0 && (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))) {
			r = err_set(e, -EPERM, "%s can be changed by others: chmod 700, or chown",
				    path);
		}
		path[i] = was;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The folder of one disk, locked. -EAGAIN: another capture has it. */
static int state_enter(struct capture_state *s, char *path, size_t own, struct err *e)
{
	int r = state_make(path, own, e);

	if (r >= 0)
		r = state_trust(path, own, e);
	if (r < 0)
		return r;
	s->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->lock < 0)
		return err_set_errno(e, -errno, "cannot open %s", path);
	if (flock(s->lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(e, -EAGAIN, "another capture of this disk is using %s", path);
	return err_set_errno(e, -errno, "cannot lock %s", path);
}

/* ---- what is there -------------------------------------------------------------------------------- */

static void state_note(const struct capture_state *s, const char *why)
{
	verb_say("capture", "note: nothing is kept of the last image of this disk: %s%s", why,
		 s->pages ? "; with write rights only, each capture then reads everything" : "");
}

static void state_warn(const struct repo_image *i, enum last_image_fate fate)
{
	char name[REPO_IMAGE_NAME_MAX];

	repo_image_name(i, name);
	if (fate == LAST_IMAGE_DAMAGED) {
		verb_say("capture",
			 "warning: the image %s, which this machine put there, is damaged in the "
			 "repository: 'ambroctl repo check' with a full key tells more. This "
			 "capture is a full one",
			 name);
		return;
	}
	verb_say("capture",
		 "warning: the image %s, which this machine put there, is gone: unless somebody "
		 "forgot and pruned it, the repository was rolled back, or its store has lost or "
		 "deleted it. This capture is a full one",
		 name);
}

/* What the repository says of it. */
static int state_judge(struct capture_state *s, struct repo *r, struct err *e)
{
	enum last_image_fate fate;
	int n;

	if (!s->last || !s->last->image)
		return 0;
	n = last_image_find(s->last, r, &fate, &s->found, e);
	if (n < 0)
		return n;
	s->there = fate == LAST_IMAGE_THERE;
	if (fate == LAST_IMAGE_GONE || fate == LAST_IMAGE_DAMAGED) {
		s->lost = true;
		state_warn(s->last->image, fate);
	}
	return 0;
}

static int state_load(struct capture_state *s, const char *path, const struct repo *r,
		      const char *host, const char *disk, struct err *e)
{
	struct store *store = NULL;
	struct err note = { 0 };
	int n = store_dir_open(path, true, &store, &note);

	if (n < 0) {
		state_note(s, note.text);
		return 0;
	}
	n = last_image_open(store, &r->format, host, disk, &s->last, &note);
	if (n < 0)
		return err_oom(e);
	if (note.code) {
		verb_say("capture",
			 "note: what was kept of the last image of this disk, in %s, cannot be "
			 "used: %s%s",
			 path, note.text, s->pages ? ". This capture is a full one" : "");
	}
	return 0;
}

int capture_state_open(struct capture_state *s, const char *dir, struct repo *r, const char *host,
		       const char *disk, struct err *e)
{
	char id[2 * REPO_ID_SIZE + 1];
	_cleanup_free_ char *place = NULL, *path = NULL;
	struct err note = { 0 };
	int n;

	*s = (struct capture_state){
		.lock = -EBADF,
		.pages = r->crypt && crypt_rights(r->crypt) == CRYPT_RIGHTS_WRITE,
	};
	n = state_place(dir, &place, e);
	if (n < 0 || !place)
		return n;
	if (!*place) {
		if (s->pages)
			state_note(s, "no --state-dir");
		return 0;
	}
	if (asprintf(&path, "%s/%s/%s/%s", place,
		     hex_encode(r->format.id, sizeof(r->format.id), id), host, disk) < 0) {
		path = NULL;
		return err_oom(e);
	}
	n = state_enter(s, path, strlen(place), &note);
	if (n < 0) {
		state_note(s, note.text);
		s->lock = close_fd(s->lock);
		return 0;
	}
	n = state_load(s, path, r, host, disk, e);
	return n < 0 ? n : state_judge(s, r, e);
}

const struct repo_image *capture_state_image(const struct capture_state *s)
{
	return s->found;
}

const struct repo_image *capture_state_parent(const struct capture_state *s)
{
	return s->there && s->last->has_pages ? s->last->image : NULL;
}

void capture_state_keep(struct capture_state *s, const struct repo_image *i)
{
	struct err note = { 0 };

	if (!s->last || last_image_keep(s->last, i, s->pages, &note) >= 0)
		return;
	state_note(s, note.text);
}

void capture_state_done(struct capture_state *s)
{
	last_image_free(s->last);
	repo_image_free(s->found);
	if (s->lock > 0)
		close_fd(s->lock);
	*s = (struct capture_state){ .lock = -EBADF };
}
