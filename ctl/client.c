/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/base/cleanup.h"

/* Listing disks may have to wait for drives that spin up. */
#define CLIENT_TIMEOUT_USEC UINT64_C(120000000)
/* Deeper than anything the agent says. */
#define CLIENT_DEPTH_MAX 8u

static int client_connect(const char *path, int *ret_fd, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (!len || len >= sizeof(sa.sun_path))
		return err_set(e, -EINVAL, "socket %s: the path is empty or too long", path);
	memcpy(sa.sun_path, path, len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set_errno(e, -errno, "cannot make a socket");
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno == EACCES || errno == EPERM)
			return err_set_errno(e, -errno, "socket %s", path);
		return err_set(e, -ENOTCONN, "cannot reach the agent on %s: %s; is ambrod running?",
			       path, strerrordesc_np(errno));
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int client_open(const char *socket, sd_bus **ret, struct err *e)
{
	_cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
	int fd = -EBADF, r;

	r = sd_bus_new(&bus);
	if (r < 0)
		return err_set_errno(e, r, "cannot make a connection");
	r = client_connect(socket, &fd, e);
	if (r < 0)
		return r;
	r = sd_bus_set_fd(bus, fd, fd);
	if (r < 0) {
		close_fd(fd);
		return err_set_errno(e, r, "cannot use the connection");
	}
	r = sd_bus_negotiate_fds(bus, true);
	if (r < 0)
		return err_set_errno(e, r, "cannot pass descriptors");
	r = sd_bus_set_method_call_timeout(bus, CLIENT_TIMEOUT_USEC);
	if (r < 0)
		return err_set_errno(e, r, "cannot set a timeout");
	r = sd_bus_start(bus);
	if (r < 0)
		return err_set_errno(e, -ENOTCONN, "the agent does not talk to us on %s", socket);
	*ret = TAKE_PTR(bus);
	return 0;
}

static int client_code(const sd_bus_error *error)
{
	static const struct {
		const char *name;
		int code;
	} codes[] = {
		{ "org.ambrotype.Error.Busy", -EBUSY },
		{ "org.ambrotype.Error.NotFound", -ENOENT },
		{ "org.ambrotype.Error.Invalid", -EINVAL },
		{ "org.ambrotype.Error.NotSupported", -ENOTSUP },
		{ "org.ambrotype.Error.Failed", -EIO },
		{ SD_BUS_ERROR_ACCESS_DENIED, -EACCES },
		{ SD_BUS_ERROR_LIMITS_EXCEEDED, -EAGAIN },
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (sd_bus_error_has_name(error, codes[i].name))
			return codes[i].code;
	}
	return -EIO;
}

int client_error(int r, sd_bus_error *error, struct err *e)
{
	if (r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ESTALE) {
		err_set(e, -ENOTCONN, "the agent has closed the connection");
	} else if (r == -ETIMEDOUT) {
		err_set(e, -ETIMEDOUT, "the agent does not answer");
	} else if (sd_bus_error_is_set(error)) {
		err_set(e, client_code(error), "%s", error->message ? error->message : error->name);
	} else {
		err_set_errno(e, r, "cannot call the agent");
	}
	sd_bus_error_free(error);
	return e->code;
}

int client_call(sd_bus *bus, const char *member, sd_bus_message **ret_reply, struct err *e,
		const char *types, ...)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	va_list ap;
	int r;

	va_start(ap, types);
	r = sd_bus_call_methodv(bus, CLIENT_AGENT, CLIENT_AGENT_PATH, CLIENT_AGENT, member, &error,
				ret_reply, types, ap);
	va_end(ap);
	return r < 0 ? client_error(r, &error, e) : 0;
}

/* ---- messages as JSON --------------------------------------------------------------------------- */

static int client_read_basic(sd_bus_message *m, char type, json_t **ret)
{
	union {
		const char *s;
		int b;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
	} v;
	int r;

	if (!strchr("sobiuxt", type))
		return -EBADMSG;
	r = sd_bus_message_read_basic(m, type, &v);
	if (r < 0)
		return r;
	switch (type) {
	case 's':
	case 'o':
		*ret = json_string(v.s);
		break;
	case 'b':
		*ret = json_boolean(v.b);
		break;
	case 'i':
		*ret = json_integer(v.i);
		break;
	case 'u':
		*ret = json_integer(v.u);
		break;
	case 'x':
		*ret = json_integer(v.x);
		break;
	default:
		*ret = json_integer((json_int_t)v.t);
	}
	return *ret ? 0 : -ENOMEM;
}

static int client_read_value(sd_bus_message *m, unsigned int depth, json_t **ret);

static int client_read_entry(sd_bus_message *m, const char *contents, unsigned int depth,
			     json_t *object)
{
	const char *key;
	json_t *value;
	int r;

	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, contents);
	if (r < 0)
		return r;
	r = sd_bus_message_read_basic(m, 's', &key);
	if (r < 0)
		return r;
	r = client_read_value(m, depth, &value);
	if (r < 0)
		return r;
	if (json_object_set_new(object, key, value) < 0)
		return -ENOMEM;
	return sd_bus_message_exit_container(m);
}

static int client_read_items(sd_bus_message *m, unsigned int depth, json_t *into)
{
	const char *contents;
	char type;
	int r;

	for (;;) {
		r = sd_bus_message_peek_type(m, &type, &contents);
		if (r <= 0)
			return r;
		if (type == SD_BUS_TYPE_DICT_ENTRY) {
			r = client_read_entry(m, contents, depth, into);
		} else {
			json_t *item;

			r = client_read_value(m, depth, &item);
			if (r >= 0 && json_array_append_new(into, item) < 0)
				r = -ENOMEM;
		}
		if (r < 0)
			return r;
	}
}

static int client_read_value(sd_bus_message *m, unsigned int depth, json_t **ret)
{
	const char *contents;
	json_t *into;
	char type;
	int r;

	r = sd_bus_message_peek_type(m, &type, &contents);
	if (r <= 0 || depth > CLIENT_DEPTH_MAX)
		return r < 0 ? r : -EBADMSG;
	if (type != SD_BUS_TYPE_ARRAY && type != SD_BUS_TYPE_VARIANT)
		return client_read_basic(m, type, ret);
	r = sd_bus_message_enter_container(m, type, contents);
	if (r < 0)
		return r;
	if (type == SD_BUS_TYPE_VARIANT) {
		r = client_read_value(m, depth + 1, &into);
		if (r < 0)
			return r;
	} else {
		into = contents[0] == '{' ? json_object() : json_array();
		r = into ? client_read_items(m, depth + 1, into) : -ENOMEM;
		if (r < 0) {
			json_decref(into);
			return r;
		}
	}
	r = sd_bus_message_exit_container(m);
	if (r < 0) {
		json_decref(into);
		return r;
	}
	*ret = into;
	return 0;
}

int client_read_json(sd_bus_message *m, json_t **ret)
{
	return client_read_value(m, 0, ret);
}

int client_properties(sd_bus *bus, const char *path, const char *interface, json_t **ret,
		      struct err *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r;

	r = sd_bus_call_method(bus, CLIENT_AGENT, path, "org.freedesktop.DBus.Properties", "GetAll",
			       &error, &reply, "s", interface);
	if (r < 0)
		return client_error(r, &error, e);
	r = client_read_json(reply, ret);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the agent's answer");
	return 0;
}

int client_job(sd_bus *bus, const char *path, json_t **ret, struct err *e)
{
	static const struct {
		const char *theirs, *ours;
	} names[] = {
		{ "Source", "source" },
		{ "State", "state" },
		{ "Phase", "phase" },
		{ "Strategy", "strategy" },
		{ "BytesTotal", "total" },
		{ "BytesDone", "done" },
		{ "BytesRead", "read" },
		{ "BytesWritten", "written" },
		{ "BytesDirty", "dirty" },
		{ "BytesBad", "bad" },
		{ "DiskSize", "disk_size" },
		{ "Rate", "rate" },
		{ "StoreUsed", "store_used" },
		{ "StoreSize", "store_size" },
		{ "StrategyReason", "strategy_reason" },
		{ "IncrementReason", "increment_reason" },
		{ "Passes", "passes" },
		{ "FreezeUsec", "freeze_us" },
		{ "Hooks", "hooks" },
		{ "HooksFailed", "hooks_failed" },
		{ "ErrorCode", "error_code" },
		{ "Error", "error" },
	};
	json_t *all = NULL, *job;
	int r;

	r = client_properties(bus, path, CLIENT_JOB, &all, e);
	if (r < 0)
		return r;
	job = json_pack("{s:s}", "job", path);
	for (size_t i = 0; job && i < ARRAY_SIZE(names); i++) {
		json_t *value = json_object_get(all, names[i].theirs);

		if (value && json_object_set(job, names[i].ours, value) < 0) {
			json_decref(job);
			job = NULL;
		}
	}
	json_decref(all);
	if (!job)
		return err_oom(e);
	*ret = job;
	return 0;
}

uint64_t client_number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

const char *client_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}
