/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <systemd/sd-bus.h>

#include "ctl/client.h"
#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"

static const char devices_help[] =
	"Usage: ambroctl devices [OPTION]…\n"
	"The disks of this machine, what is on them, and how each would be captured: 'live' with tracking of\n"
	"what is written meanwhile, 'offline' when nothing uses it, 'not while in use' where this kernel cannot\n"
	"track writes.\n"
	"\n"
	"      --json         an array of objects\n"
	"      --socket PATH  where the agent listens\n"
	"  -h, --help         this text\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 5 the agent cannot be reached; 7 not allowed.\n";

#define DEVICES_NAME_MAX   128
#define DEVICES_MOUNTS_MAX 512

static int devices_ask(json_t **ret, bool *ret_tracker, struct err *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
	json_t *agent = NULL, *rows = NULL;
	int r;

	r = client_open(arg_socket, &bus, e);
	if (r < 0)
		return r;
	r = client_call(bus, "ListDisks", &reply, e, NULL);
	if (r < 0)
		return r;
	r = client_properties(bus, CLIENT_AGENT_PATH, CLIENT_AGENT, &agent, e);
	if (r < 0)
		return r;
	*ret_tracker =
		json_is_true(json_object_get(json_object_get(agent, "Capabilities"), "tracker"));
	json_decref(agent);
	r = client_read_json(reply, &rows);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the agent's answer");
	if (!json_is_array(rows)) {
		json_decref(rows);
		return err_set(e, -EBADMSG, "the agent's answer is not a list");
	}
	*ret = rows;
	return 0;
}

/* Is the row, or a partition of it, in use? */
static bool devices_in_use(const json_t *rows, const json_t *row)
{
	const char *name = client_text(row, "name");
	bool used = json_is_true(json_object_get(row, "in_use"));

	for (size_t i = 0; i < json_array_size(rows) && !used; i++) {
		const json_t *other = json_array_get(rows, i);

		used = !strcmp(client_text(other, "parent"), name) &&
		       json_is_true(json_object_get(other, "in_use"));
	}
	return used;
}

static const char *devices_how(const json_t *rows, const json_t *row, bool tracker)
{
	if (!devices_in_use(rows, row))
		return "offline";
	return tracker ? "live" : "not while in use";
}

static int devices_add(struct render_table *t, const json_t *rows, const json_t *row, bool tracker)
{
	const char *parent = client_text(row, "parent");
	char name[DEVICES_NAME_MAX], size[RENDER_MAX], mounts[DEVICES_MOUNTS_MAX] = "";
	const json_t *mount;
	size_t i, n = 0;

	snprintf(name, sizeof(name), "%s%s", *parent ? "  " : "", client_text(row, "name"));
	json_array_foreach(json_object_get(row, "mounts"), i, mount) if (n < sizeof(mounts))
	{
		n += (size_t)snprintf(mounts + n, sizeof(mounts) - n, "%s%s", n ? " " : "",
				      json_string_value(mount));
	}
	const char *const cells[] = {
		name,
		client_text(row, "kind"),
		render_size(client_number(row, "size"), size),
		client_text(row, "fs_type"),
		client_text(row, "fs_label"),
		json_is_true(json_object_get(row, "read_only")) ? "yes" : "",
		json_is_true(json_object_get(row, "tracked")) ? "yes" : "",
		devices_how(rows, row, tracker),
		mounts,
		client_text(row, "model"),
	};

	return render_table_add(t, cells);
}

/* A disk and, behind it, its partitions. */
static int devices_add_tree(struct render_table *t, const json_t *rows, const json_t *disk,
			    bool tracker)
{
	const json_t *row;
	size_t i;
	int r;

	r = devices_add(t, rows, disk, tracker);
	if (r < 0)
		return r;
	json_array_foreach(rows, i, row)
	{
		if (strcmp(client_text(row, "parent"), client_text(disk, "name")) != 0)
			continue;
		r = devices_add(t, rows, row, tracker);
		if (r < 0)
			return r;
	}
	return 0;
}

static int devices_print(const json_t *rows, bool tracker)
{
	static const char *const headings[] = { "NAME",	   "KIND",  ">SIZE",   "FS",
						"LABEL",   "RO",    "TRACKED", "CAPTURE",
						"MOUNTED", "MODEL", NULL };
	_cleanup_(render_table_freep) struct render_table *t = NULL;
	const json_t *row;
	size_t i;
	int r;

	r = render_table_new(headings, &t);
	if (r < 0)
		return r;
	json_array_foreach(rows, i, row)
	{
		if (*client_text(row, "parent"))
			continue;
		r = devices_add_tree(t, rows, row, tracker);
		if (r < 0)
			return r;
	}
	render_table_print(t, stdout);
	return 0;
}

int verb_devices(int argc, char **argv)
{
	static const struct option options[] = { VERB_OPTIONS };
	bool tracker = false;
	struct err e = { 0 };
	json_t *rows = NULL;
	int code, r;

	if (verb_getopt(argc, argv, "", options, devices_help, &code) == VERB_GETOPT_RETURN)
		return code;
	if (optind < argc)
		return verb_usage("devices", "unexpected argument %s", argv[optind]);
	r = devices_ask(&rows, &tracker, &e);
	if (r < 0)
		return verb_fail("devices", &e);
	if (arg_json)
		return render_json(rows, stdout) < 0 ? VERB_FAILED : VERB_OK;
	r = devices_print(rows, tracker);
	json_decref(rows);
	if (r < 0) {
		err_oom(&e);
		return verb_fail("devices", &e);
	}
	return VERB_OK;
}
