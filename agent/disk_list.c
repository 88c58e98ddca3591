/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <blkid.h>
#include <libmount.h>

#include "agent/disk.h"
#include "lib/base/io.h"
#include "lib/base/text.h"
#include "lib/layout/sysblock.h"

#define CLASS_FOLDER "/sys/class/block"

static void table_freep(struct libmnt_table **tb)
{
	mnt_unref_table(*tb);
}

static void iter_freep(struct libmnt_iter **it)
{
	mnt_free_iter(*it);
}

static void probe_freep(blkid_probe *pr)
{
	if (*pr)
		blkid_free_probe(*pr);
}

static void row_done(struct disk_row *row)
{
	for (char **m = row->mounts; m && *m; m++)
		free(*m);
	free(row->mounts);
	free(row->name);
	free(row->parent);
	free(row->path);
	free(row->fs_type);
	free(row->fs_uuid);
	free(row->fs_label);
	free(row->model);
	free(row->kind);
	*row = (struct disk_row){ 0 };
}

static const char *kind_of(dev_t dev, const char *name)
{
	static const char *const prefixes[][2] = {
		{ "loop", "loop" }, { "zram", "zram" }, { "sr", "rom" }, { "fd", "floppy" },
		{ "nbd", "nbd" },   { "dm-", "dm" },	{ "md", "md" },
	};

	if (sysblock_is_partition(dev))
		return "part";
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (!strncmp(name, prefixes[i][0], strlen(prefixes[i][0])))
			return prefixes[i][1];
	}
	return "disk";
}

/* May a read of it wait for a hand to put in a medium, or for a resume that never comes? */
static bool reading_may_hang(dev_t dev, const char *kind)
{
	uint64_t suspended = 0;

	return !strcmp(kind, "rom") || !strcmp(kind, "floppy") ||
	       (sysblock_u64(dev, "dm/suspended", &suspended) == 0 && suspended);
}

/* For display only: through the page cache, which is good enough for a name. */
static int row_identify(struct disk_row *row)
{
	_cleanup_close_ int fd = open(row->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	_cleanup_(probe_freep) blkid_probe pr = NULL;
	struct {
		const char *name;
		char **field;
	} values[] = {
		{ "TYPE", &row->fs_type },
		{ "UUID", &row->fs_uuid },
		{ "LABEL", &row->fs_label },
	};

	if (fd < 0)
		return 0;
	pr = blkid_new_probe();
	if (!pr)
		return -ENOMEM;
	if (blkid_probe_set_device(pr, fd, 0, 0) < 0)
		return 0;
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
						      BLKID_SUBLKS_LABEL);
	if (blkid_do_safeprobe(pr) != 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const char *value;

		if (blkid_probe_lookup_value(pr, values[i].name, &value, NULL) < 0)
			continue;
		*values[i].field = strdup(value);
		if (!*values[i].field)
			return -ENOMEM;
	}
	return 0;
}

static bool mounted_from(struct libmnt_fs *fs, dev_t dev)
{
	const char *source = mnt_fs_get_source(fs);
	dev_t number = mnt_fs_get_devno(fs);
	struct stat st;

	if (major(number))
		return number == dev;
	return source && !strncmp(source, "/dev/", 5) && stat(source, &st) == 0 &&
	       S_ISBLK(st.st_mode) && st.st_rdev == dev;
}

static int row_add_mounts(struct disk_row *row, struct libmnt_table *tb, dev_t dev)
{
	_cleanup_(iter_freep) struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	size_t count = 0;

	if (!it)
		return -ENOMEM;
	while (mnt_table_next_fs(tb, it, &fs) == 0) {
		char **grown;

		if (!mnt_fs_get_target(fs) || !mounted_from(fs, dev))
			continue;
		grown = reallocarray(row->mounts, count + 2, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		row->mounts = grown;
		grown[count + 1] = NULL;
		grown[count] = strdup(mnt_fs_get_target(fs));
		if (!grown[count++])
			return -ENOMEM;
	}
	return 0;
}

static int row_fill_texts(struct disk_row *row, dev_t dev, const char *name)
{
	char path[SYSBLOCK_PATH_MAX + 8], text[SYSBLOCK_PATH_MAX];
	dev_t whole = dev;

	if (sysblock_path(dev, path, sizeof(path)) < 0)
		snprintf(path, sizeof(path), "/dev/%s", name);
	row->name = strdup(name);
	row->path = strdup(path);
	row->kind = strdup(kind_of(dev, name));
	if (!row->name || !row->path || !row->kind)
		return -ENOMEM;
	sysblock_whole(dev, &whole);
	if (whole != dev && sysblock_name(whole, text, sizeof(text)) == 0) {
		row->parent = strdup(text);
		if (!row->parent)
			return -ENOMEM;
	}
	if (sysblock_text(whole, "device/model", text, sizeof(text)) > 0 ||
	    sysblock_text(dev, "dm/name", text, sizeof(text)) > 0) {
		row->model = strdup(text);
		if (!row->model)
			return -ENOMEM;
	}
	return 0;
}

static int row_fill(struct disk_row *row, dev_t dev, const char *name, struct libmnt_table *tb)
{
	char pin[64];
	uint64_t n;
	dev_t whole = dev;
	int r;

	sysblock_whole(dev, &whole);
	row->start = sysblock_start(dev);
	row->read_only = sysblock_u64(dev, "ro", &n) == 0 && n;
	row->removable = sysblock_u64(whole, "removable", &n) == 0 && n;
	snprintf(pin, sizeof(pin), "/sys/fs/bpf/ambro/%u:%u", major(dev), minor(dev));
	row->tracked = access(pin, F_OK) == 0;
	r = row_fill_texts(row, dev, name);
	if (r < 0)
		return r;
	if (!reading_may_hang(dev, row->kind)) {
		r = row_identify(row);
		if (r < 0)
			return r;
	}
	r = row_add_mounts(row, tb, dev);
	if (r < 0)
		return r;
	row->in_use = row->mounts ||
		      disk_mounts_used(&(struct stack_target){ .device = dev, .whole = whole });
	return 0;
}

/* Its number, and whether it is one that anybody wants to see. */
static bool name_wanted(const char *name, dev_t *ret_dev, uint64_t *ret_size)
{
	char path[512], text[32];
	uint64_t sectors;
	dev_t dev;

	if (name[0] == '.' || !strncmp(name, "ram", 3))
		return false;
	snprintf(path, sizeof(path), CLASS_FOLDER "/%s/dev", name);
	if (io_read_line(path, text, sizeof(text)) <= 0 || text_device(text, &dev) < 0)
		return false;
	snprintf(path, sizeof(path), CLASS_FOLDER "/%s/size", name);
	if (io_read_u64(path, &sectors) < 0 || !sectors)
		return false;
	*ret_dev = dev;
	*ret_size = sectors * 512;
	return true;
}

static int row_compare(const void *a, const void *b)
{
	const struct disk_row *x = a, *y = b;

	return strverscmp(x->name, y->name);
}

static int rows_read(DIR *folder, struct libmnt_table *tb, struct disk_row **rows, size_t *count)
{
	struct dirent *entry;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while ((entry = readdir(folder))) {
		struct disk_row *grown;
		uint64_t size;
		dev_t dev;
		int r;

		if (!name_wanted(entry->d_name, &dev, &size))
			continue;
		grown = reallocarray(*rows, *count + 1, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		*rows = grown;
		grown[*count] = (struct disk_row){ .size = size };
		r = row_fill(&grown[(*count)++], dev, entry->d_name, tb);
		if (r < 0)
			return r;
	}
	return 0;
}

int disk_list(struct disk_row **ret, size_t *ret_count, struct err *e)
{
	_cleanup_(table_freep) struct libmnt_table *tb = mnt_new_table();
	_cleanup_dir_ DIR *folder = opendir(CLASS_FOLDER);
	struct disk_row *rows = NULL;
	size_t count = 0;
	int r;

	if (!folder)
		return err_set_errno(e, -errno, CLASS_FOLDER);
	if (!tb)
		return err_oom(e);
	r = mnt_table_parse_file(tb, "/proc/self/mountinfo");
	if (r < 0)
		return err_set_errno(e, r, "/proc/self/mountinfo");
	r = rows_read(folder, tb, &rows, &count);
	if (r < 0) {
		disk_list_free(rows, count);
		return err_oom(e);
	}
	if (count)
		qsort(rows, count, sizeof(*rows), row_compare);
	*ret = rows;
	*ret_count = count;
	return 0;
}

void disk_list_free(struct disk_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		row_done(&rows[i]);
	free(rows);
}
