/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bus_disks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/bus_error.h"
#include "agent/disk.h"
#include "agent/leftover.h"
#include "agent/peer.h"
#include "agent/tracker.h"
#include "lib/base/text.h"

/* A method call that is being answered. The message holds the connection, which may be closed meanwhile. */
struct disks_call {
	sd_bus_message *message; /* the loop's */
	char *source;
	struct disk_row *rows; /* the task's, until it has ended; as what follows */
	size_t n_rows;
	int result;
	struct err err;
};

static void disks_call_free(struct disks_call *c)
{
	if (!c)
		return;
	disk_list_free(c->rows, c->n_rows);
	sd_bus_message_unref(c->message);
	free(c->source);
	free(c);
}
DEFINE_CLEANUP(struct disks_call, disks_call_free);

static int disks_append_text(sd_bus_message *m, const char *key, const char *text)
{
	char clean[1024];

	return sd_bus_message_append(m, "{sv}", key, "s",
				     text_clean(text, false, clean, sizeof(clean)));
}

static int disks_append_mounts(sd_bus_message *m, char **mounts)
{
	char clean[4096];
	int r;

	r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");
	if (r < 0)
		return r;
	r = sd_bus_message_append(m, "s", "mounts");
	if (r < 0)
		return r;
	r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, "as");
	if (r < 0)
		return r;
	r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "s");
	if (r < 0)
		return r;
	for (; mounts && *mounts; mounts++) {
		r = sd_bus_message_append(m, "s", text_clean(*mounts, false, clean, sizeof(clean)));
		if (r < 0)
			return r;
	}
	for (int i = 0; i < 3; i++) {
		r = sd_bus_message_close_container(m);
		if (r < 0)
			return r;
	}
	return 0;
}

static int disks_append_row(sd_bus_message *m, const struct disk_row *row)
{
	const struct {
		const char *key, *value;
	} texts[] = {
		{ "name", row->name },	       { "path", row->path },
		{ "parent", row->parent },     { "kind", row->kind },
		{ "fs_type", row->fs_type },   { "fs_uuid", row->fs_uuid },
		{ "fs_label", row->fs_label }, { "model", row->model },
	};
	int r;

	r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		r = disks_append_text(m, texts[i].key, texts[i].value);
		if (r < 0)
			return r;
	}
	r = disks_append_mounts(m, row->mounts);
	if (r < 0)
		return r;
	r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "size", "t", row->size, "start",
				  "t", row->start, "read_only", "b", (int)row->read_only,
				  "removable", "b", (int)row->removable, "tracked", "b",
				  (int)row->tracked, "in_use", "b", (int)row->in_use);
	if (r < 0)
		return r;
	return sd_bus_message_close_container(m);
}

static int disks_reply_rows(const struct disks_call *c)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = sd_bus_message_new_method_return(c->message, &reply);
	if (r < 0)
		return r;
	r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "a{sv}");
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n_rows; i++) {
		r = disks_append_row(reply, &c->rows[i]);
		if (r < 0)
			return r;
	}
	r = sd_bus_message_close_container(reply);
	if (r < 0)
		return r;
	return sd_bus_message_send(reply);
}

static void disks_reply_error(const struct disks_call *c)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct err e = c->err;

	if (!*e.text)
		err_set_errno(&e, c->result, "cannot look at the disks");
	bus_error_set(&error, &e);
	/* the client may have gone, and then there is nobody to tell */
	(void)sd_bus_reply_method_error(c->message, &error);
}

static void disks_list_run(void *userdata)
{
	struct disks_call *c = userdata;

	c->result = disk_list(&c->rows, &c->n_rows, &c->err);
}

static void disks_list_done(void *userdata)
{
	_cleanup_(disks_call_freep) struct disks_call *c = userdata;

	if (c->result >= 0)
		c->result = disks_reply_rows(c);
	if (c->result < 0)
		disks_reply_error(c);
}

static void disks_untrack_run(void *userdata)
{
	_cleanup_(disk_freep) struct disk *d = NULL;
	struct disks_call *c = userdata;

	c->result = disk_open(c->source, &d, &c->err);
	if (c->result < 0)
		return;
	if (d->is_file) {
		c->result = err_set(&c->err, -ENOTBLK, "%s is a file: nothing tracks it", d->path);
	} else {
		c->result = tracker_remove(d->whole, &c->err);
	}
}

static void disks_untrack_done(void *userdata)
{
	_cleanup_(disks_call_freep) struct disks_call *c = userdata;

	if (c->result < 0) {
		disks_reply_error(c);
	} else {
		(void)sd_bus_reply_method_return(c->message, NULL);
	}
}

static void disks_repair_run(void *userdata)
{
	struct disks_call *c = userdata;

	c->result = leftover_repair(&c->err);
}

static void disks_repair_done(void *userdata)
{
	_cleanup_(disks_call_freep) struct disks_call *c = userdata;

	if (c->result < 0) {
		disks_reply_error(c);
	} else {
		(void)sd_bus_reply_method_return(c->message, "u", (uint32_t)c->result);
	}
}

/* What is asked for, by a thread and by the loop. */
struct disks_work {
	void (*run)(void *call);
	void (*done)(void *call);
};

static const struct disks_work work_list = { disks_list_run, disks_list_done };
static const struct disks_work work_untrack = { disks_untrack_run, disks_untrack_done };
static const struct disks_work work_repair = { disks_repair_run, disks_repair_done };

static int disks_call_start(sd_bus_message *m, struct peer *p, const char *source,
			    const struct disks_work *work, sd_bus_error *error)
{
	_cleanup_(disks_call_freep) struct disks_call *c = NULL;
	struct err e = { 0 };
	int r;

	r = manager_admit_task(p->manager, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	if (source) {
		c->source = strdup(source);
		if (!c->source)
			return -ENOMEM;
	}
	c->message = sd_bus_message_ref(m);
	r = task_start(&p->manager->tasks, work->run, work->done, c);
	if (r < 0)
		return r;
	TAKE_PTR(c);
	/* sd-bus: handled, the answer follows */
	return 1;
}

int bus_disks_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return disks_call_start(m, userdata, NULL, &work_list, error);
}

int bus_disks_untrack(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;
	const char *source;
	struct job *j;
	int r;

	r = sd_bus_message_read(m, "s", &source);
	if (r < 0)
		return r;
	if (*source && *source != '/') {
		return sd_bus_error_set(error, "org.ambrotype.Error.Invalid",
					"the source is not an absolute path");
	}
	/* a capture under way relies on its tracker; which disk it is on is known only to its thread */
	TAILQ_FOREACH(j, &p->manager->jobs, link)
	if (j->state == JOB_RUNNING) {
		return sd_bus_error_set(error, "org.ambrotype.Error.Busy",
					"a capture is running; untrack when it has ended");
	}
	return disks_call_start(m, p, source, &work_untrack, error);
}

int bus_disks_repair(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const struct peer *p = userdata;

	if (p->uid != 0) {
		return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
					"only root may have leftovers taken down");
	}
	return disks_call_start(m, userdata, NULL, &work_repair, error);
}
