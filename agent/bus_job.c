/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bus_job.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Messages in a peer's queue: with this many progress is dropped, with that many the peer is. */
#define BUS_JOB_QUEUE_SLOW 32u
#define BUS_JOB_QUEUE_DEAD 4096u

int bus_job_path(const struct job *j, char **ret)
{
	/* not sd_bus_path_encode(): it would write "_31" for "1", which is legal as it is */
	return asprintf(ret, PEER_JOB_PATH "/%s", j->name) < 0 ? -ENOMEM : 0;
}

struct job *bus_job_find(const struct peer *p, const char *path)
{
	const size_t prefix = sizeof(PEER_JOB_PATH "/") - 1;
	struct job *j;

	if (strncmp(path, PEER_JOB_PATH "/", prefix) != 0)
		return NULL;
	TAILQ_FOREACH(j, &p->manager->jobs, link)
	if (!strcmp(j->name, path + prefix))
		return peer_may_see(p, j) ? j : NULL;
	return NULL;
}

static int bus_job_lookup(sd_bus *bus, const char *path, const char *interface, void *userdata,
			  void **ret_found, sd_bus_error *error)
{
	struct job *j = bus_job_find(userdata, path);

	(void)bus, (void)interface, (void)error;
	if (!j)
		return 0;
	*ret_found = j;
	return 1;
}

static int bus_job_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
			     sd_bus_error *error)
{
	const struct peer *p = userdata;
	const struct job *j;
	char **nodes;
	size_t n = 0;

	(void)bus, (void)prefix, (void)error;
	nodes = calloc(MANAGER_MAX_JOBS + MANAGER_MAX_ENDED + 2, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	TAILQ_FOREACH(j, &p->manager->jobs, link)
	{
		if (!peer_may_see(p, j))
			continue;
		if (bus_job_path(j, &nodes[n]) < 0) {
			while (n)
				free(nodes[--n]);
			free(nodes);
			return -ENOMEM;
		}
		n++;
	}
	*ret_nodes = nodes;
	return 0;
}

static const char *bus_job_strategy(const struct job *j)
{
	int s = atomic_load(&j->status.strategy);

	return s == CAPTURE_AUTO ? "" : capture_strategy_name((enum capture_strategy)s);
}

static const char *bus_job_increment(const struct job *j)
{
	int k = atomic_load(&j->status.increment);

	return k ? capture_increment_name((enum increment_kind)(k - 1)) : "";
}

static const char *bus_job_phase(const struct job *j)
{
	return capture_phase_name((enum capture_phase)atomic_load(&j->status.phase));
}

/* NOLINTBEGIN(readability-function-size): seven parameters are how sd-bus calls a getter */

static int bus_job_get_text(sd_bus *bus, const char *path, const char *interface,
			    const char *property, sd_bus_message *reply, void *userdata,
			    sd_bus_error *error)
{
	const struct job *j = userdata;
	const char *text = "";

	(void)bus, (void)path, (void)interface, (void)error;
	if (!strcmp(property, "Source")) {
		text = j->request.source ? j->request.source : "";
	} else if (!strcmp(property, "State")) {
		text = job_state_name(j->state);
	} else if (!strcmp(property, "Phase")) {
		text = bus_job_phase(j);
	} else if (!strcmp(property, "Strategy")) {
		text = bus_job_strategy(j);
	} else if (!strcmp(property, "Increment")) {
		text = bus_job_increment(j);
	} else if (!strcmp(property, "IncrementReason")) {
		text = atomic_load(&j->status.increment) ? j->status.increment_reason : "";
	} else if (!strcmp(property, "StrategyReason")) {
		text = atomic_load(&j->status.reasoned) ? j->status.reason : "";
	} else if (j->state != JOB_RUNNING) {
		text = j->err.text;
	}
	return sd_bus_message_append(reply, "s", text);
}

static int bus_job_get_number(sd_bus *bus, const char *path, const char *interface,
			      const char *property, sd_bus_message *reply, void *userdata,
			      sd_bus_error *error)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		{ "BytesTotal", offsetof(struct capture_status, total) },
		{ "BytesDone", offsetof(struct capture_status, done) },
		{ "BytesRead", offsetof(struct capture_status, read) },
		{ "BytesWritten", offsetof(struct capture_status, written) },
		{ "BytesDirty", offsetof(struct capture_status, dirty) },
		{ "BytesBad", offsetof(struct capture_status, bad) },
		{ "DiskSize", offsetof(struct capture_status, disk_size) },
		{ "StoreUsed", offsetof(struct capture_status, store_used) },
		{ "StoreSize", offsetof(struct capture_status, store_size) },
		{ "FreezeUsec", offsetof(struct capture_status, freeze_us) },
	};
	struct job *j = userdata;

	(void)bus, (void)path, (void)interface, (void)error;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (strcmp(property, numbers[i].name) != 0)
			continue;
		const atomic_uint_fast64_t *field =
			(const void *)((const char *)&j->status + numbers[i].offset);
		return sd_bus_message_append(reply, "t", (uint64_t)atomic_load(field));
	}
	return sd_bus_message_append(reply, "t", j->rate);
}

static int bus_job_get_count(sd_bus *bus, const char *path, const char *interface,
			     const char *property, sd_bus_message *reply, void *userdata,
			     sd_bus_error *error)
{
	struct job *j = userdata;
	const atomic_uint *field = !strcmp(property, "Hooks")	      ? &j->status.hooks
				   : !strcmp(property, "HooksFailed") ? &j->status.hooks_failed
								      : &j->status.passes;

	(void)bus, (void)path, (void)interface, (void)error;
	return sd_bus_message_append(reply, "u", (uint32_t)atomic_load(field));
}

static int bus_job_get_code(sd_bus *bus, const char *path, const char *interface,
			    const char *property, sd_bus_message *reply, void *userdata,
			    sd_bus_error *error)
{
	const struct job *j = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "i", j->state == JOB_RUNNING ? 0 : j->err.code);
}

/* NOLINTEND(readability-function-size) */

#define CONST	SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
static const sd_bus_vtable bus_job_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Source", "s", bus_job_get_text, 0, CONST),
	SD_BUS_PROPERTY("State", "s", bus_job_get_text, 0, CHANGES),
	SD_BUS_PROPERTY("Phase", "s", bus_job_get_text, 0, CHANGES),
	SD_BUS_PROPERTY("Strategy", "s", bus_job_get_text, 0, 0),
	SD_BUS_PROPERTY("StrategyReason", "s", bus_job_get_text, 0, 0),
	SD_BUS_PROPERTY("Increment", "s", bus_job_get_text, 0, 0),
	SD_BUS_PROPERTY("IncrementReason", "s", bus_job_get_text, 0, 0),
	SD_BUS_PROPERTY("BytesTotal", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("BytesDone", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("BytesRead", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("BytesWritten", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("BytesDirty", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("BytesBad", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("DiskSize", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("StoreUsed", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("StoreSize", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("Rate", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("Passes", "u", bus_job_get_count, 0, 0),
	SD_BUS_PROPERTY("Hooks", "u", bus_job_get_count, 0, 0),
	SD_BUS_PROPERTY("HooksFailed", "u", bus_job_get_count, 0, 0),
	SD_BUS_PROPERTY("FreezeUsec", "t", bus_job_get_number, 0, 0),
	SD_BUS_PROPERTY("ErrorCode", "i", bus_job_get_code, 0, 0),
	SD_BUS_PROPERTY("Error", "s", bus_job_get_text, 0, 0),
	SD_BUS_SIGNAL_WITH_NAMES(
		"Progress", "stttttttt",
		SD_BUS_PARAM(phase) SD_BUS_PARAM(done) SD_BUS_PARAM(total) SD_BUS_PARAM(read)
			SD_BUS_PARAM(written) SD_BUS_PARAM(dirty) SD_BUS_PARAM(rate)
				SD_BUS_PARAM(store_used) SD_BUS_PARAM(store_size),
		0),
	SD_BUS_SIGNAL_WITH_NAMES("Finished", "sis",
				 SD_BUS_PARAM(state) SD_BUS_PARAM(code) SD_BUS_PARAM(error), 0),
	SD_BUS_VTABLE_END,
};

int bus_job_add(struct peer *p)
{
	int r;

	r = sd_bus_add_fallback_vtable(p->bus, NULL, PEER_JOB_PATH, PEER_JOB, bus_job_vtable,
				       bus_job_lookup, p);
	if (r < 0)
		return r;
	return sd_bus_add_node_enumerator(p->bus, NULL, PEER_JOB_PATH, bus_job_enumerate, p);
}

/* Returns messages in the queue, or -ENOBUFS. */
static int bus_job_queued(struct peer *p)
{
	uint64_t n = 0;
	int r;

	r = sd_bus_get_n_queued_write(p->bus, &n);
	if (r < 0)
		return r;
	return n > BUS_JOB_QUEUE_DEAD ? -ENOBUFS : (int)n;
}

/* May @p be told of @j, and under which path (the caller's)? 0, or -ENOBUFS and the like. */
static int bus_job_address(struct peer *p, struct job *j, char **ret_path)
{
	int r = bus_job_queued(p);

	return r < 0 ? r : bus_job_path(j, ret_path);
}

int bus_job_emit_progress(struct peer *p, struct job *j)
{
	struct capture_status *s = &j->status;
	_cleanup_free_ char *path = NULL;
	int r;

	r = bus_job_queued(p);
	if (r < 0 || r > (int)BUS_JOB_QUEUE_SLOW)
		return r < 0 ? r : 0;
	r = bus_job_path(j, &path);
	if (r < 0)
		return r;
	return sd_bus_emit_signal(p->bus, path, PEER_JOB, "Progress", "stttttttt", bus_job_phase(j),
				  (uint64_t)atomic_load(&s->done), (uint64_t)atomic_load(&s->total),
				  (uint64_t)atomic_load(&s->read),
				  (uint64_t)atomic_load(&s->written),
				  (uint64_t)atomic_load(&s->dirty), j->rate,
				  (uint64_t)atomic_load(&s->store_used),
				  (uint64_t)atomic_load(&s->store_size));
}

int bus_job_emit_phase(struct peer *p, struct job *j)
{
	_cleanup_free_ char *path = NULL;
	int r;

	r = bus_job_address(p, j, &path);
	if (r < 0)
		return r;
	return sd_bus_emit_properties_changed(p->bus, path, PEER_JOB, "Phase", NULL);
}

int bus_job_emit_ended(struct peer *p, struct job *j)
{
	_cleanup_free_ char *path = NULL;
	int r;

	r = bus_job_address(p, j, &path);
	if (r < 0)
		return r;
	/* to a peer that may no longer see the job this is the last it hears of it */
	if (peer_may_see(p, j)) {
		r = sd_bus_emit_properties_changed(p->bus, path, PEER_JOB, "State", "Phase", NULL);
		if (r < 0)
			return r;
	}
	return sd_bus_emit_signal(p->bus, path, PEER_JOB, "Finished", "sis",
				  job_state_name(j->state), (int32_t)j->err.code, j->err.text);
}
