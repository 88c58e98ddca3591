/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include <systemd/sd-bus.h>

#include "ctl/client.h"
#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"

static const char status_help[] =
	"Usage: ambroctl status [OPTION]…\n"
	"Says which agent runs, what it can do, and its captures.\n"
	"\n"
	"      --repair       first take down what a killed agent left below a disk (root)\n"
	"      --json         one object: version, tracker, tracker_reason, dm, dm_reason, kmod,\n"
	"                     kmod_reason, io_uring, max_jobs, repaired, jobs [ … ]\n"
	"      --socket PATH  where the agent listens\n"
	"  -h, --help         this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line;\n"
	"5 the agent cannot be reached; 7 not allowed.\n";

/* All jobs that we may see, as an array of client_job() objects. */
static int status_jobs(sd_bus *bus, json_t **ret, struct err *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	json_t *paths = NULL, *jobs, *path;
	size_t i;
	int r;

	r = client_call(bus, "ListJobs", &reply, e, NULL);
	if (r < 0)
		return r;
	r = client_read_json(reply, &paths);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the agent's answer");
	jobs = json_array();
	json_array_foreach(paths, i, path)
	{
		struct err gone;
		json_t *job;

		/* forgotten since: not there is what it is */
		if (client_job(bus, json_string_value(path), &job, &gone) < 0)
			continue;
		json_array_append_new(jobs, job);
	}
	json_decref(paths);
	if (!jobs)
		return err_oom(e);
	*ret = jobs;
	return 0;
}

/* Have the agent take down what a killed one left. */
static int status_repair(sd_bus *bus, uint32_t *ret, struct err *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = client_call(bus, "Repair", &reply, e, NULL);
	if (r < 0)
		return r;
	r = sd_bus_message_read(reply, "u", ret);
	return r < 0 ? err_set_errno(e, r, "cannot read the agent's answer") : 0;
}

static int status_ask(bool repair, struct err *e, json_t **ret)
{
	_cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
	json_t *agent = NULL, *jobs = NULL, *abilities, *status;
	uint32_t repaired = 0;
	int r;

	r = client_open(arg_socket, &bus, e);
	if (r >= 0 && repair)
		r = status_repair(bus, &repaired, e);
	if (r < 0)
		return r;
	r = client_properties(bus, CLIENT_AGENT_PATH, CLIENT_AGENT, &agent, e);
	if (r < 0)
		return r;
	r = status_jobs(bus, &jobs, e);
	if (r < 0) {
		json_decref(agent);
		return r;
	}
	abilities = json_object_get(agent, "Capabilities");
	status = json_pack(
		"{s:O?, s:O?, s:s, s:O?, s:s, s:O?, s:s, s:O?, s:O?, s:I, s:o}", "version",
		json_object_get(agent, "Version"), "tracker", json_object_get(abilities, "tracker"),
		"tracker_reason", client_text(abilities, "tracker_reason"), "dm",
		json_object_get(abilities, "dm"), "dm_reason", client_text(abilities, "dm_reason"),
		"kmod", json_object_get(abilities, "kmod"), "kmod_reason",
		client_text(abilities, "kmod_reason"), "io_uring",
		json_object_get(abilities, "io_uring"), "max_jobs",
		json_object_get(agent, "MaxJobs"), "repaired", (json_int_t)repaired, "jobs", jobs);
	json_decref(agent);
	if (!status)
		return err_oom(e);
	*ret = status;
	return 0;
}

static int status_add_job(struct render_table *t, const json_t *job)
{
	char percent[16] = "", read[RENDER_MAX], written[RENDER_MAX], rate[RENDER_MAX] = "";
	uint64_t total = client_number(job, "total"), done = client_number(job, "done");
	const char *state = client_text(job, "state"), *source = client_text(job, "source");
	const char *name = strrchr(client_text(job, "job"), '/');

	if (!strcmp(state, "running")) {
		if (total) {
			snprintf(percent, sizeof(percent), "%u%%",
				 (unsigned int)(100.0 * (double)MIN(done, total) / (double)total));
		}
		render_rate(client_number(job, "rate"), rate);
	}
	const char *const cells[] = {
		name ? name + 1 : "",
		*source ? source : "/",
		state,
		client_text(job, "phase"),
		client_text(job, "strategy"),
		percent,
		render_size(client_number(job, "read"), read),
		render_size(client_number(job, "written"), written),
		rate,
		strcmp(state, "failed") != 0 ? "" : client_text(job, "error"),
	};

	return render_table_add(t, cells);
}

static void status_print_ability(const json_t *status, const char *key, const char *reason)
{
	if (json_is_true(json_object_get(status, key))) {
		printf("%-8s available\n", key);
	} else {
		printf("%-8s not available: %s\n", key, client_text(status, reason));
	}
}

static int status_print(const json_t *status)
{
	static const char *const headings[] = { ">JOB",	    "SOURCE", "STATE", "PHASE",
						"STRATEGY", ">DONE",  ">READ", ">WRITTEN",
						">RATE",    "ERROR",  NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	const json_t *jobs = json_object_get(status, "jobs"), *job;
	size_t i;

	printf("agent    ambrod %s\n", client_text(status, "version"));
	if (json_is_true(json_object_get(status, "tracker"))) {
		printf("tracking available\n");
	} else {
		printf("tracking not available: %s\n", client_text(status, "tracker_reason"));
	}
	status_print_ability(status, "dm", "dm_reason");
	status_print_ability(status, "kmod", "kmod_reason");
	if (json_is_false(json_object_get(status, "io_uring")))
		printf("io_uring not available: disks are read by threads, which is slower\n");
	if (json_integer_value(json_object_get(status, "repaired"))) {
		printf("repaired %lld devices and files that a killed agent had left\n",
		       (long long)json_integer_value(json_object_get(status, "repaired")));
	}
	if (!json_array_size(jobs)) {
		printf("captures none\n");
		return 0;
	}
	printf("\n");
	if (render_table_new(headings, &t) < 0)
		return -ENOMEM;
	json_array_foreach(jobs, i, job) if (status_add_job(t, job) < 0) return -ENOMEM;
	render_table_print(t, stdout);
	return 0;
}

int verb_status(int argc, char **argv)
{
	static const struct option options[] = { { "repair", no_argument, NULL, VERB_OPTION_OWN },
						 VERB_OPTIONS };
	struct err e = { 0 };
	json_t *status = NULL;
	bool repair = false;
	int c, code, r;

	while ((c = verb_getopt(argc, argv, "", options, status_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		repair = true;
	}
	if (optind < argc)
		return verb_usage("status", "unexpected argument %s", argv[optind]);
	r = status_ask(repair, &e, &status);
	if (r < 0)
		return verb_fail("status", &e);
	if (arg_json)
		return render_json(status, stdout) < 0 ? VERB_FAILED : VERB_OK;
	r = status_print(status);
	json_decref(status);
	if (r < 0) {
		err_oom(&e);
		return verb_fail("status", &e);
	}
	return VERB_OK;
}
