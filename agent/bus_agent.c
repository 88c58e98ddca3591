/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/bus_agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ability.h"
#include "agent/bus_disks.h"
#include "agent/bus_error.h"
#include "agent/bus_job.h"
#include "agent/request.h"
#include "agent/together.h"

/* Start a job and answer with its path. Takes over request->output_fd, request->parent_fd and @file. */
static int bus_agent_start(sd_bus_message *m, struct peer *p, const struct capture_request *request,
			   struct newfile *file)
{
	struct capture_request scoped = *request;
	_cleanup_free_ char *path = NULL;
	char together[TOGETHER_NAME_MAX];
	struct job *j;
	int r;

	/* nobody meets another's captures */
	if (request->together) {
		snprintf(together, sizeof(together), "%u:%llu:%s", p->uid,
			 file ? 0ULL : (unsigned long long)p->id, request->together);
		scoped.together = together;
	}
	r = job_new(&scoped, file, &j);
	if (r < 0)
		return r;
	j->uid = p->uid;
	/* with a file of the agent's own there is nobody who has to stay */
	j->owner = file ? 0 : p->id;
	r = manager_start_job(p->manager, j);
	if (r < 0)
		return r;
	r = bus_job_path(j, &path);
	if (r < 0)
		return r;
	return sd_bus_reply_method_return(m, "o", path);
}

/* Descriptors of our own: the message's are closed with the message. */
static int bus_agent_keep_fds(struct capture_request *request, int output)
{
	int *const fds[] = { &request->output_fd, &request->parent_fd, &request->destination_fd };

	request->output_fd = output;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (*fds[i] < 0)
			continue;
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 3);
		if (*fds[i] >= 0)
			continue;
		output = -errno;
		while (i-- > 0)
			close_fd(*fds[i]);
		return output;
	}
	return 0;
}

static int bus_agent_capture(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;
	struct capture_request request;
	struct err e = { 0 };
	int fd, r;

	r = request_read(m, &request, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	if (p->uid != 0 && request_names_store(&request)) {
		return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
					"only root may name a COW store");
	}
	r = sd_bus_message_read(m, "h", &fd);
	if (r < 0)
		return r;
	r = request_check_output(fd, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	r = manager_admit_job(p->manager, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	r = bus_agent_keep_fds(&request, fd);
	if (r < 0)
		return r;
	return bus_agent_start(m, p, &request, NULL);
}

static int bus_agent_capture_to_file(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;
	struct capture_request request;
	struct newfile *file;
	struct err e = { 0 };
	const char *path;
	int r;

	/* files are made with root's rights, so it is root who may ask */
	if (p->uid != 0) {
		return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
					"only root may have the agent write a file");
	}
	r = request_read(m, &request, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	r = sd_bus_message_read(m, "s", &path);
	if (r < 0)
		return r;
	/* the job belongs to nobody, so nobody would answer it */
	if (request.parent_fd >= 0 || request.destination_fd >= 0) {
		err_set(&e, -EINVAL, "options parent and destination go with Capture");
		return bus_error_set(error, &e);
	}
	if (*path != '/') {
		err_set(&e, -EINVAL, "output %.200s is not an absolute path", path);
		return bus_error_set(error, &e);
	}
	r = manager_admit_job(p->manager, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	r = newfile_open(path, 0600, false, &file, &e);
	if (r < 0)
		return bus_error_set(error, &e);
	return bus_agent_start(m, p, &request, file);
}

static int bus_agent_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;
	struct err e = { 0 };
	const char *path;
	struct job *j;
	int r;

	r = sd_bus_message_read(m, "o", &path);
	if (r < 0)
		return r;
	j = bus_job_find(p, path);
	if (!j) {
		err_set(&e, -ENOENT, "there is no job %.200s", path);
		return bus_error_set(error, &e);
	}
	if (!peer_may_cancel(p, j)) {
		return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
					"only root and who started a job may cancel it");
	}
	if (j->state == JOB_RUNNING)
		cancel_raise(&j->cancel);
	return sd_bus_reply_method_return(m, NULL);
}

static int bus_agent_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct peer *p = userdata;
	struct job *j;
	int r;

	(void)error;
	r = sd_bus_message_new_method_return(m, &reply);
	if (r < 0)
		return r;
	r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "o");
	if (r < 0)
		return r;
	TAILQ_FOREACH(j, &p->manager->jobs, link)
	{
		_cleanup_free_ char *path = NULL;

		if (!peer_may_see(p, j))
			continue;
		r = bus_job_path(j, &path);
		if (r < 0)
			return r;
		r = sd_bus_message_append(reply, "o", path);
		if (r < 0)
			return r;
	}
	r = sd_bus_message_close_container(reply);
	if (r < 0)
		return r;
	return sd_bus_message_send(reply);
}

/* NOLINTBEGIN(readability-function-size): seven parameters are how sd-bus calls a getter */

static int bus_agent_get_version(sd_bus *bus, const char *path, const char *interface,
				 const char *property, sd_bus_message *reply, void *userdata,
				 sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "s", AMBRO_VERSION);
}

static int bus_agent_get_jobs(sd_bus *bus, const char *path, const char *interface,
			      const char *property, sd_bus_message *reply, void *userdata,
			      sd_bus_error *error)
{
	const struct peer *p = userdata;

	(void)bus, (void)path, (void)interface, (void)error;
	return sd_bus_message_append(
		reply, "u", !strcmp(property, "Jobs") ? p->manager->n_running : MANAGER_MAX_JOBS);
}

static int bus_agent_get_abilities(sd_bus *bus, const char *path, const char *interface,
				   const char *property, sd_bus_message *reply, void *userdata,
				   sd_bus_error *error)
{
	struct err why = { 0 };
	struct err no_dm = { 0 }, no_kmod = { 0 };
	bool able = ability_tracker(&why) == 0;
	bool dm = ability_mapper(&no_dm) == 0, kmod = dm && ability_module(&no_kmod) == 0;

	(void)bus, (void)path, (void)interface, (void)property, (void)userdata, (void)error;
	return sd_bus_message_append(reply, "a{sv}", 7, "tracker", "b", (int)able, "tracker_reason",
				     "s", why.text, "io_uring", "b", (int)ability_io_uring(), "dm",
				     "b", (int)dm, "dm_reason", "s", no_dm.text, "kmod", "b",
				     (int)kmod, "kmod_reason", "s", dm ? no_kmod.text : no_dm.text);
}

/* NOLINTEND(readability-function-size) */

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
/* who may call at all was decided by the filter of agent/control.c */
#define ALL SD_BUS_VTABLE_UNPRIVILEGED
static const sd_bus_vtable bus_agent_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("ListDisks", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", disks),
				bus_disks_list, ALL),
	SD_BUS_METHOD_WITH_ARGS("Capture", SD_BUS_ARGS("s", source, "a{sv}", options, "h", output),
				SD_BUS_RESULT("o", job), bus_agent_capture, ALL),
	SD_BUS_METHOD_WITH_ARGS("CaptureToFile",
				SD_BUS_ARGS("s", source, "a{sv}", options, "s", path),
				SD_BUS_RESULT("o", job), bus_agent_capture_to_file, ALL),
	SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("o", job), SD_BUS_NO_RESULT, bus_agent_cancel,
				ALL),
	SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("ao", jobs),
				bus_agent_list_jobs, ALL),
	SD_BUS_METHOD_WITH_ARGS("Untrack", SD_BUS_ARGS("s", source), SD_BUS_NO_RESULT,
				bus_disks_untrack, ALL),
	SD_BUS_METHOD_WITH_ARGS("Repair", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", found),
				bus_disks_repair, ALL),
	SD_BUS_PROPERTY("Version", "s", bus_agent_get_version, 0, CONST),
	SD_BUS_PROPERTY("Jobs", "u", bus_agent_get_jobs, 0, 0),
	SD_BUS_PROPERTY("MaxJobs", "u", bus_agent_get_jobs, 0, CONST),
	SD_BUS_PROPERTY("Capabilities", "a{sv}", bus_agent_get_abilities, 0, 0),
	SD_BUS_VTABLE_END,
};

int bus_agent_add(struct peer *p)
{
	return sd_bus_add_object_vtable(p->bus, NULL, PEER_AGENT_PATH, PEER_AGENT, bus_agent_vtable,
					p);
}
