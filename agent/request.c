/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/request.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/manager.h"
#include "lib/base/cleanup.h"
#include "lib/image/codec.h"

enum request_option {
	OPTION_STRATEGY,
	OPTION_LEVEL,
	OPTION_MAX_FREEZE,
	OPTION_THREADS,
	OPTION_IGNORE,
	OPTION_COW,
	OPTION_COW_SIZE,
	OPTION_OVERFLOW,
	OPTION_TOGETHER,
	OPTION_TOGETHER_COUNT,
	OPTION_PARENT,
	OPTION_CHUNK_SHIFT,
	OPTION_DESTINATION,
	OPTION_HOOKS,
	OPTION_HOOK_TIMEOUT,
	OPTION_LIMIT_READ,
	OPTION_LIMIT_WRITE,
	OPTION_FULL_SPEED,
};

static const struct request_key {
	const char *name;
	char type;
} request_keys[] = {
	[OPTION_STRATEGY] = { "strategy", 's' },
	[OPTION_LEVEL] = { "level", 'i' },
	[OPTION_MAX_FREEZE] = { "max_freeze_ms", 'u' },
	[OPTION_THREADS] = { "threads", 'u' },
	[OPTION_IGNORE] = { "ignore_read_errors", 'b' },
	[OPTION_COW] = { "cow", 's' },
	[OPTION_TOGETHER] = { "together", 's' },
	[OPTION_TOGETHER_COUNT] = { "together_count", 'u' },
	[OPTION_COW_SIZE] = { "cow_size", 't' },
	[OPTION_OVERFLOW] = { "on_overflow", 's' },
	[OPTION_PARENT] = { "parent", 'h' },
	[OPTION_CHUNK_SHIFT] = { "chunk_shift", 'u' },
	[OPTION_DESTINATION] = { "destination", 'h' },
	[OPTION_HOOKS] = { "hooks", 's' },
	[OPTION_HOOK_TIMEOUT] = { "hook_timeout_ms", 'u' },
	[OPTION_LIMIT_READ] = { "limit_read", 't' },
	[OPTION_LIMIT_WRITE] = { "limit_write", 't' },
	[OPTION_FULL_SPEED] = { "full_speed", 'b' },
};

/* Whatever a basic D-Bus type may be read into. */
union request_value {
	const char *s;
	int32_t i;
	uint32_t u;
	uint64_t t;
	int b;
	int h;
};

/* What the image is to fit to. */
static int request_set_repository(struct capture_request *req, enum request_option o,
				  const union request_value *v, struct err *e)
{
	switch (o) {
	case OPTION_PARENT:
		req->parent_fd = v->h;
		return 0;
	case OPTION_DESTINATION:
		req->destination_fd = v->h;
		return 0;
	case OPTION_CHUNK_SHIFT:
		if (v->u < AMBRO_CHUNK_SHIFT_MIN || v->u > AMBRO_CHUNK_SHIFT_MAX) {
			return err_set(e, -EINVAL, "chunk_shift %u is not within %d … %d", v->u,
				       AMBRO_CHUNK_SHIFT_MIN, AMBRO_CHUNK_SHIFT_MAX);
		}
		req->chunk_shift = v->u;
		return 0;
	default:
		return -EINVAL;
	}
}

static int request_set_limit(const char *name, uint64_t rate, uint64_t *ret, struct err *e)
{
	if (rate < REQUEST_LIMIT_MIN || rate > INT64_MAX) {
		return err_set(e, -EINVAL, "%s %" PRIu64 " is less than %u bytes per second", name,
			       rate, REQUEST_LIMIT_MIN);
	}
	*ret = rate;
	return 0;
}

/* How it gets on with the rest of the server. */
static int request_set_manners(struct capture_request *req, enum request_option o,
			       const union request_value *v, struct err *e)
{
	switch (o) {
	case OPTION_HOOKS:
		if (hook_policy_parse(v->s, &req->hooks) < 0) {
			return err_set(e, -EINVAL, "hooks %.64s is not abort, continue or off",
				       v->s);
		}
		return 0;
	case OPTION_HOOK_TIMEOUT:
		if (v->u < REQUEST_HOOK_MS_MIN || v->u > REQUEST_HOOK_MS_MAX) {
			return err_set(e, -EINVAL, "hook_timeout_ms %u is not within %u … %u", v->u,
				       REQUEST_HOOK_MS_MIN, REQUEST_HOOK_MS_MAX);
		}
		req->hook_timeout_ms = v->u;
		return 0;
	case OPTION_LIMIT_READ:
		return request_set_limit("limit_read", v->t, &req->limit_read, e);
	case OPTION_LIMIT_WRITE:
		return request_set_limit("limit_write", v->t, &req->limit_write, e);
	case OPTION_FULL_SPEED:
		req->full_speed = v->b;
		return 0;
	default:
		return request_set_repository(req, o, v, e);
	}
}

/* What only snapshots have. */
static int request_set_snapshot(struct capture_request *req, enum request_option o,
				const union request_value *v, struct err *e)
{
	switch (o) {
	case OPTION_COW:
		if (strlen(v->s) >= REQUEST_SOURCE_MAX)
			return err_set(e, -EINVAL, "cow is too long a name");
		req->cow = (char *)v->s;
		return 0;
	case OPTION_COW_SIZE:
		if (v->t < REQUEST_COW_SIZE_MIN || v->t > INT64_MAX) {
			return err_set(e, -EINVAL, "cow_size %" PRIu64 " is less than %u", v->t,
				       REQUEST_COW_SIZE_MIN);
		}
		req->cow_size = v->t;
		return 0;
	case OPTION_TOGETHER:
		if (!*v->s || strlen(v->s) > REQUEST_TOGETHER_NAME_MAX) {
			return err_set(e, -EINVAL, "together is not a name of 1 … %u bytes",
				       REQUEST_TOGETHER_NAME_MAX);
		}
		req->together = (char *)v->s;
		return 0;
	case OPTION_TOGETHER_COUNT:
		if (v->u < 1 || v->u > MANAGER_MAX_JOBS) {
			return err_set(e, -EINVAL, "together_count %u is not within 1 … %u", v->u,
				       MANAGER_MAX_JOBS);
		}
		req->together_count = v->u;
		return 0;
	case OPTION_OVERFLOW:
		req->overflow_precopy = strcmp(v->s, "precopy") == 0;
		if (!req->overflow_precopy && strcmp(v->s, "fail") != 0) {
			return err_set(e, -EINVAL, "on_overflow %.64s is not fail or precopy",
				       v->s);
		}
		return 0;
	default:
		return request_set_manners(req, o, v, e);
	}
}

static int request_set(struct capture_request *req, enum request_option o,
		       const union request_value *v, struct err *e)
{
	switch (o) {
	case OPTION_STRATEGY:
		if (capture_strategy_parse(v->s, &req->strategy) < 0) {
			return err_set(
				e, -EINVAL,
				"strategy %.64s is unknown: auto, dm, kmod, precopy, offline or still",
				v->s);
		}
		return 0;
	case OPTION_LEVEL:
		if (v->i < -7 || v->i > CODEC_LEVEL_MAX) {
			return err_set(e, -EINVAL, "level %d is not within -7 … %d", v->i,
				       CODEC_LEVEL_MAX);
		}
		req->level = v->i;
		return 0;
	case OPTION_MAX_FREEZE:
		if (v->u < REQUEST_FREEZE_MS_MIN || v->u > REQUEST_FREEZE_MS_MAX) {
			return err_set(e, -EINVAL, "max_freeze_ms %u is not within %u … %u", v->u,
				       REQUEST_FREEZE_MS_MIN, REQUEST_FREEZE_MS_MAX);
		}
		req->max_freeze_ms = v->u;
		return 0;
	case OPTION_THREADS:
		if (v->u > REQUEST_THREADS_MAX) {
			return err_set(e, -EINVAL, "threads %u is more than %u", v->u,
				       REQUEST_THREADS_MAX);
		}
		req->threads = v->u;
		return 0;
	case OPTION_IGNORE:
		req->ignore_read_errors = v->b;
		return 0;
	default:
		return request_set_snapshot(req, o, v, e);
	}
}

/* One entry of the dictionary, entered. @seen: a bit per option. */
static int request_read_option(sd_bus_message *m, struct capture_request *req, unsigned int *seen,
			       struct err *e)
{
	union request_value v = { 0 };
	const char *name, *type;
	size_t o = 0;
	char kind;
	int r;

	r = sd_bus_message_read(m, "s", &name);
	if (r < 0)
		return r;
	while (o < ARRAY_SIZE(request_keys) && strcmp(name, request_keys[o].name) != 0)
		o++;
	if (o == ARRAY_SIZE(request_keys))
		return err_set(e, -EINVAL, "option %.64s is unknown", name);
	if (*seen & 1u << o)
		return err_set(e, -EINVAL, "option %s is given twice", name);
	*seen |= 1u << o;
	r = sd_bus_message_peek_type(m, &kind, &type);
	if (r < 0)
		return r;
	if (kind != SD_BUS_TYPE_VARIANT || type[0] != request_keys[o].type || type[1]) {
		return err_set(e, -EINVAL, "option %s is of type %s, not %c", name, type,
			       request_keys[o].type);
	}
	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, type);
	if (r < 0)
		return r;
	r = sd_bus_message_read_basic(m, request_keys[o].type, &v);
	if (r < 0)
		return r;
	r = request_set(req, (enum request_option)o, &v, e);
	if (r < 0)
		return r;
	return sd_bus_message_exit_container(m);
}

static int request_read_options(sd_bus_message *m, struct capture_request *req, struct err *e)
{
	unsigned int seen = 0;
	int r;

	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r < 0)
		return r;
	for (;;) {
		r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");
		if (r < 0)
			return r;
		if (r == 0)
			return sd_bus_message_exit_container(m);
		r = request_read_option(m, req, &seen, e);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
}

int request_read(sd_bus_message *m, struct capture_request *ret, struct err *e)
{
	struct capture_request req = {
		.strategy = CAPTURE_AUTO,
		.level = CODEC_LEVEL_DEFAULT,
		.max_freeze_ms = CAPTURE_MAX_FREEZE_MS_DEFAULT,
		.hook_timeout_ms = CAPTURE_HOOK_TIMEOUT_MS_DEFAULT,
		.parent_fd = -EBADF,
		.destination_fd = -EBADF,
		.output_fd = -EBADF,
	};
	const char *source;
	int r;

	r = sd_bus_message_read(m, "s", &source);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the message");
	if (strlen(source) >= REQUEST_SOURCE_MAX)
		return err_set(e, -EINVAL, "the source is too long a name");
	/* the agent's working directory means nothing to the one who asks */
	if (*source && *source != '/')
		return err_set(e, -EINVAL, "source %.200s is not an absolute path", source);
	req.source = (char *)source;
	if (e)
		e->text[0] = '\0';
	r = request_read_options(m, &req, e);
	if (r < 0)
		return e && *e->text ? r : err_set_errno(e, r, "cannot read the message");
	if (!req.together != !req.together_count)
		return err_set(e, -EINVAL, "together and together_count go with one another");
	*ret = req;
	return 0;
}

bool request_names_store(const struct capture_request *r)
{
	return r->cow && strchr(r->cow, '/');
}

int request_check_output(int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	struct statx st;
	mode_t type;

	if (flags < 0)
		return err_set_errno(e, -errno, "the output descriptor");
	if (flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY)
		return err_set(e, -EINVAL, "the output descriptor is not open for writing");
	/* what is cached will do: fstat() may ask a file server, and wait for it */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return err_set_errno(e, -errno, "the output descriptor");
	type = st.stx_mode & S_IFMT;
	if (type == S_IFBLK) {
		return err_set(
			e, -EINVAL,
			"the output is a block device; an image is written to a file or a pipe");
	}
	if (type == S_IFCHR && !(st.stx_rdev_major == 1 && st.stx_rdev_minor == 3))
		return err_set(e, -EINVAL, "the output is a character device other than /dev/null");
	if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR)
		return err_set(e, -EINVAL, "the output is neither a file nor a pipe");
	return 0;
}
