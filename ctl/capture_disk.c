/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/client.h"
#include "lib/base/cleanup.h"
#include "lib/repo/repo_image.h"

static const char *last_word(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static const json_t *row_named(const json_t *rows, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		if (!strcmp(client_text(row, "name"), name))
			return row;
	}
	return NULL;
}

static const json_t *row_mounted_at(const json_t *rows, const char *path)
{
	const json_t *row, *mount;
	size_t i, k;

	json_array_foreach(rows, i, row)
	{
		json_array_foreach(json_object_get(row, "mounts"), k, mount)
		{
			if (!strcmp(json_string_value(mount) ? json_string_value(mount) : "", path))
				return row;
		}
	}
	return NULL;
}

/* A partition's disk, as the agent takes it for a mount point. */
static const json_t *row_disk(const json_t *rows, const json_t *row)
{
	while (row && !strcmp(client_text(row, "kind"), "part")) {
		const json_t *up = row_named(rows, client_text(row, "parent"));

		if (!up)
			return row;
		row = up;
	}
	return row;
}

int capture_disk_name(sd_bus *bus, const char *source, char **ret, struct err *e)
{
	_cleanup_free_ char *real = realpath(*source ? source : "/", NULL);
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(json_decrefp) json_t *rows = NULL;
	const json_t *row = NULL;
	const char *name;
	struct stat st;
	int r;

	if (!real || stat(real, &st) < 0)
		return err_set_errno(e, -errno, "%s", source);
	name = last_word(real);
	if (S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode)) {
		r = client_call(bus, "ListDisks", &reply, e, "");
		if (r >= 0)
			r = client_read_json(reply, &rows);
		if (r < 0) {
			return e && e->code ? r
					    : err_set_errno(e, r, "cannot read the list of disks");
		}
		row = S_ISBLK(st.st_mode) ? row_named(rows, name)
					  : row_disk(rows, row_mounted_at(rows, real));
		if (row)
			name = client_text(row, "path");
	}
	*ret = repo_image_disk_word(*name ? name : "root", row ? client_text(row, "model") : NULL);
	return *ret ? 0 : err_oom(e);
}
