/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/contents.h"

#include <errno.h>
#include <string.h>

#include <blkid.h>

#include "ctl/render.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/image/codec.h"
#include "lib/layout/sysblock.h"

#define CONTENTS_HEAD (UINT64_C(1) << 20)
/* some seconds of a slow disk's seeks */
#define CONTENTS_SAMPLES    256u
#define CONTENTS_SAMPLE	    65536u
#define EXT_SUPERBLOCK	    1024
#define EXT_MAGIC	    0xEF53u
#define EXT_MAGIC_AT	    56
#define EXT_LAST_MOUNTED_AT 136
#define EXT_LAST_MOUNTED    64

static void probe_freep(blkid_probe *p)
{
	blkid_free_probe(*p);
}

static int probe_string(blkid_probe p, const char *name, char **ret)
{
	const char *v;

	if (blkid_probe_lookup_value(p, name, &v, NULL) < 0)
		return 0;
	*ret = strdup(v);
	return *ret ? 0 : -ENOMEM;
}

/* ext2/3/4 keep the path where they were mounted last. */
static int content_last_mounted(int fd, struct content *c)
{
	uint8_t sb[EXT_LAST_MOUNTED_AT + EXT_LAST_MOUNTED];
	le16_t magic;

	if (io_pread_all(fd, sb, sizeof(sb), c->start + EXT_SUPERBLOCK) < 0)
		return 0;
	memcpy(&magic, sb + EXT_MAGIC_AT, sizeof(magic));
	if (le16_get(magic) != EXT_MAGIC || !sb[EXT_LAST_MOUNTED_AT])
		return 0;
	c->last_mounted = strndup((char *)sb + EXT_LAST_MOUNTED_AT, EXT_LAST_MOUNTED);
	return c->last_mounted ? 0 : -ENOMEM;
}

/* Returns 1 when something is there, 0 when nothing is, or a negative errno. */
static int content_look(int fd, struct content *c)
{
	_cleanup_(probe_freep) blkid_probe p = blkid_new_probe();
	int r;

	if (!p)
		return -ENOMEM;
	if (blkid_probe_set_device(p, fd, (blkid_loff_t)c->start, (blkid_loff_t)c->length) < 0)
		return -EIO;
	blkid_probe_enable_superblocks(p, 1);
	blkid_probe_set_superblocks_flags(p, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL);
	r = blkid_do_safeprobe(p);
	if (r == -2) {
		c->type = strdup("several signatures");
		return c->type ? 1 : -ENOMEM;
	}
	if (r < 0)
		return -EIO;
	if (r > 0)
		return 0;
	r = probe_string(p, "TYPE", &c->type);
	if (r >= 0)
		r = probe_string(p, "LABEL", &c->label);
	if (r >= 0 && c->type && strncmp(c->type, "ext", 3) == 0)
		r = content_last_mounted(fd, c);
	return r < 0 ? r : c->type != NULL;
}

static void content_done(struct content *c)
{
	free(c->type);
	free(c->label);
	free(c->last_mounted);
}

static int contents_add(struct contents *c, int fd, unsigned int partition, uint64_t start,
			uint64_t length)
{
	struct content item = { .partition = partition, .start = start, .length = length }, *grown;
	int r;

	for (size_t i = 0; i < c->count; i++) {
		if (partition && c->items[i].start == start)
			return 0; /* the table's and the kernel's view of one partition */
	}
	r = content_look(fd, &item);
	/* a partition is worth a line even when nothing is known of what is in it */
	if (r < 0 || (r == 0 && !partition)) {
		content_done(&item);
		return r;
	}
	grown = reallocarray(c->items, c->count + 1, sizeof(*c->items));
	if (!grown) {
		content_done(&item);
		return -ENOMEM;
	}
	c->items = grown;
	c->items[c->count++] = item;
	return 0;
}

static int contents_add_table(struct contents *c, int fd, uint64_t size)
{
	_cleanup_(probe_freep) blkid_probe p = blkid_new_probe();
	blkid_partlist list;
	blkid_parttable table;
	int r = 0;

	if (!p)
		return -ENOMEM;
	if (blkid_probe_set_device(p, fd, 0, (blkid_loff_t)size) < 0)
		return -EIO;
	blkid_probe_enable_superblocks(p, 0);
	blkid_probe_enable_partitions(p, 1);
	list = blkid_probe_get_partitions(p);
	table = list ? blkid_partlist_get_table(list) : NULL;
	if (!table)
		return 0;
	snprintf(c->table, sizeof(c->table), "%s", blkid_parttable_get_type(table));
	for (int i = 0; i < blkid_partlist_numof_partitions(list) && r >= 0; i++) {
		blkid_partition part = blkid_partlist_get_partition(list, i);
		uint64_t start = (uint64_t)blkid_partition_get_start(part) * 512;
		uint64_t length = (uint64_t)blkid_partition_get_size(part) * 512;

		if (start < size && length && length <= size - start &&
		    !blkid_partition_is_extended(part)) {
			r = contents_add(c, fd, (unsigned int)blkid_partition_get_partno(part),
					 start, length);
		}
	}
	return r;
}

static int contents_add_kernel(struct contents *c, int fd, dev_t device, uint64_t size)
{
	struct sysblock_part parts[SYSBLOCK_LINKS_MAX];
	int n = device ? sysblock_parts(device, parts) : 0, r = 0;

	for (int i = 0; i < n && r >= 0; i++) {
		const struct sysblock_part *p = &parts[i];

		if (p->start < size && p->length <= size - p->start)
			r = contents_add(c, fd, p->number, p->start, p->length);
	}
	return r;
}

/*
 * Data without any signature (a database on a raw partition) may begin anywhere. To read all of a disk takes
 * hours; a sample at every so many bytes finds what fills more than a small part of it.
 */
static int contents_sample(struct contents *c, int fd, uint64_t size)
{
	uint64_t step = ROUND_UP(MAX(size / CONTENTS_SAMPLES, (uint64_t)CONTENTS_SAMPLE), 4096);
	_cleanup_free_ uint8_t *sample = malloc(CONTENTS_SAMPLE);

	if (!sample)
		return -ENOMEM;
	for (uint64_t at = 0; at < size && !c->any_data; at += step) {
		size_t len = (size_t)MIN(size - at, (uint64_t)CONTENTS_SAMPLE);
		int r = io_pread_all(fd, sample, len, at);

		if (r < 0)
			return r;
		c->any_data = !chunk_is_zero(sample, len);
	}
	return 0;
}

static int contents_look_at_head(struct contents *c, int fd, uint64_t size)
{
	size_t len = (size_t)MIN(size, CONTENTS_HEAD);
	_cleanup_free_ uint8_t *head = malloc(len + 1);
	int r;

	if (!head)
		return -ENOMEM;
	r = io_pread_all(fd, head, len, 0);
	if (r < 0)
		return r;
	c->any_data = !chunk_is_zero(head, len);
	return contents_sample(c, fd, size);
}

int contents_probe(int fd, dev_t device, uint64_t size, struct contents **ret, struct err *e)
{
	_cleanup_(contents_freep) struct contents *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_oom(e);
	/* libblkid takes a length of 0 for "all of it" and refuses what is smaller than a sector */
	if (size >= 1024) {
		r = contents_add_table(c, fd, size);
		if (r >= 0)
			r = contents_add(c, fd, 0, 0, size);
		if (r >= 0)
			r = contents_add_kernel(c, fd, device, size);
		if (r < 0)
			return err_set_errno(e, r, "looking at what is there now");
	}
	r = contents_look_at_head(c, fd, size);
	if (r < 0)
		return err_set_errno(e, r, "reading what is there now");
	*ret = TAKE_PTR(c);
	return 0;
}

void contents_free(struct contents *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		content_done(&c->items[i]);
	free(c->items);
	free(c);
}

bool contents_empty(const struct contents *c)
{
	return !c->count && !*c->table && !c->any_data;
}

static void content_print(const struct content *c, const char *indent, FILE *out)
{
	char size[RENDER_MAX], type[64], label[160], mounted[160];

	fputs(indent, out);
	if (c->partition)
		fprintf(out, "partition %u: ", c->partition);
	fprintf(out, "%s, %s", render_size(c->length, size),
		c->type ? render_safe(c->type, type, sizeof(type)) : "no known content");
	if (c->label)
		fprintf(out, ", label \"%s\"", render_safe(c->label, label, sizeof(label)));
	if (c->last_mounted) {
		fprintf(out, ", last mounted on %s",
			render_safe(c->last_mounted, mounted, sizeof(mounted)));
	}
	fputc('\n', out);
}

void contents_print(const struct contents *c, const char *indent, FILE *out)
{
	if (*c->table)
		fprintf(out, "%sa %s partition table\n", indent, c->table);
	for (size_t i = 0; i < c->count; i++)
		content_print(&c->items[i], indent, out);
	if (!c->count && !*c->table) {
		fprintf(out, "%s%s\n", indent,
			c->any_data ? "data of an unknown kind" : "nothing known");
	}
}
