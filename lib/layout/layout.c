/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blkid.h>
#include <libfdisk.h>

/* More regions than any real disk has; a table that claims more is not believed. */
#define LAYOUT_REGIONS_MAX 16384

/* A partition as the table has it, in bytes. */
struct slot {
	uint64_t start, length;
	bool container; /* a DOS extended partition */
	bool nested;	/* a DOS logical partition */
	unsigned int number;
	char *type, *name, *uuid, *flags;
};

struct slots {
	struct slot *items;
	size_t count;
};

static void slots_done(struct slots *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->items[i].type);
		free(s->items[i].name);
		free(s->items[i].uuid);
		free(s->items[i].flags);
	}
	free(s->items);
	*s = (struct slots){ 0 };
}

/* NULL and "" become NULL. */
static int text_copy(const char *text, char **ret)
{
	char *copy = NULL;

	if (text && *text) {
		copy = strdup(text);
		if (!copy)
			return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

static void probe_freep(blkid_probe *pr)
{
	if (*pr)
		blkid_free_probe(*pr);
}

static void context_freep(struct fdisk_context **cxt)
{
	fdisk_unref_context(*cxt);
}

static void table_freep(struct fdisk_table **tb)
{
	fdisk_unref_table(*tb);
}

static void script_freep(struct fdisk_script **dp)
{
	fdisk_unref_script(*dp);
}

static int probe_new(int fd, uint64_t start, uint64_t length, uint32_t sector_size,
		     blkid_probe *ret)
{
	_cleanup_(probe_freep) blkid_probe pr = blkid_new_probe();

	if (!pr)
		return -ENOMEM;
	if (blkid_probe_set_device(pr, fd, (blkid_loff_t)start, (blkid_loff_t)length) < 0)
		return -EIO;
	/* it takes a file's sectors as 512 bytes; setting the device forgets what was said before */
	if (blkid_probe_set_sectorsize(pr, sector_size) < 0)
		return -EIO;
	*ret = TAKE_PTR(pr);
	return 0;
}

static const char *probe_value(blkid_probe pr, const char *name)
{
	const char *value = NULL;

	return blkid_probe_lookup_value(pr, name, &value, NULL) < 0 ? NULL : value;
}

/*
 * Fill in r->fs_*. What libblkid finds twice is unknown to us. Returns 1 when there is something with a
 * signature (even an ambivalent one), 0 when not, or -ENOMEM.
 */
static int region_identify(int fd, uint32_t sector_size, struct layout_region *r)
{
	_cleanup_(probe_freep) blkid_probe pr = NULL;
	int found, err;

	err = probe_new(fd, r->start, r->length, sector_size, &pr);
	if (err < 0)
		return err == -ENOMEM ? err : 0;
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
						      BLKID_SUBLKS_LABEL);
	found = blkid_do_safeprobe(pr);
	if (found == -2)
		return 1;
	if (found != 0)
		return 0;
	if (text_copy(probe_value(pr, "TYPE"), &r->fs_type) < 0 ||
	    text_copy(probe_value(pr, "UUID"), &r->fs_uuid) < 0 ||
	    text_copy(probe_value(pr, "LABEL"), &r->fs_label) < 0)
		return -ENOMEM;
	return r->fs_type ? 1 : 0;
}

/*
 * The partition table's type as libblkid sees it, or NULL. It knows that a FAT or NTFS boot sector is not
 * a DOS table, which libfdisk does not.
 */
static int table_type(int fd, uint64_t size, uint32_t sector_size, char **ret)
{
	_cleanup_(probe_freep) blkid_probe pr = NULL;
	int r;

	*ret = NULL;
	r = probe_new(fd, 0, size, sector_size, &pr);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	blkid_probe_enable_superblocks(pr, 0);
	blkid_probe_enable_partitions(pr, 1);
	if (blkid_do_safeprobe(pr) != 0)
		return 0;
	return text_copy(probe_value(pr, "PTTYPE"), ret);
}

static int slot_fill(struct fdisk_partition *pa, bool gpt, uint32_t sector_size, struct slot *s)
{
	struct fdisk_parttype *type = fdisk_partition_get_type(pa);
	char code[16];

	/* a claim that does not fit into 64 bits is beyond any disk's end, and so it stays */
	if (__builtin_mul_overflow(fdisk_partition_get_start(pa), (uint64_t)sector_size, &s->start))
		s->start = UINT64_MAX;
	if (__builtin_mul_overflow(fdisk_partition_get_size(pa), (uint64_t)sector_size, &s->length))
		s->length = UINT64_MAX;
	s->container = fdisk_partition_is_container(pa);
	s->nested = fdisk_partition_is_nested(pa);
	s->number = (unsigned int)fdisk_partition_get_partno(pa) + 1;
	if (!gpt && type) {
		snprintf(code, sizeof(code), "0x%02x", fdisk_parttype_get_code(type));
		if (text_copy(code, &s->type) < 0)
			return -ENOMEM;
	} else if (type && text_copy(fdisk_parttype_get_string(type), &s->type) < 0) {
		return -ENOMEM;
	}
	if (text_copy(fdisk_partition_get_name(pa), &s->name) < 0 ||
	    text_copy(fdisk_partition_get_uuid(pa), &s->uuid) < 0)
		return -ENOMEM;
	if (!gpt)
		return fdisk_partition_is_bootable(pa) == 1 ? text_copy("boot", &s->flags) : 0;
	return text_copy(fdisk_partition_get_attrs(pa), &s->flags);
}

static int slot_compare(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* In order of start. Returns -EBADMSG when the table cannot be read. */
static int slots_read(struct fdisk_context *cxt, bool gpt, struct slots *ret)
{
	_cleanup_(table_freep) struct fdisk_table *tb = NULL;
	_cleanup_(slots_done) struct slots s = { 0 };
	uint32_t sector_size = (uint32_t)fdisk_get_sector_size(cxt);
	size_t n;

	if (fdisk_get_partitions(cxt, &tb) < 0)
		return -EBADMSG;
	n = fdisk_table_get_nents(tb);
	s.items = calloc(n + 1, sizeof(*s.items));
	if (!s.items)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct fdisk_partition *pa = fdisk_table_get_partition(tb, i);

		if (!pa || !fdisk_partition_is_used(pa) || !fdisk_partition_has_start(pa) ||
		    !fdisk_partition_has_size(pa) || !fdisk_partition_has_partno(pa))
			continue;
		if (slot_fill(pa, gpt, sector_size, &s.items[s.count++]) < 0)
			return -ENOMEM;
	}
	qsort(s.items, s.count, sizeof(*s.items), slot_compare);
	*ret = s;
	s.items = NULL;
	s.count = 0;
	return 0;
}

/* The one extended partition, or NULL. */
static const struct slot *slots_container(const struct slots *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->items[i].container)
			return &s->items[i];
	}
	return NULL;
}

static bool slot_apart(const struct slot *a, const struct slot *b)
{
	return a->start + a->length <= b->start || b->start + b->length <= a->start;
}

static bool slot_inside(const struct slot *a, const struct slot *b)
{
	return a->start >= b->start && a->start + a->length <= b->start + b->length;
}

/* Can regions be made of it: all inside the disk, disjoint, logical ones (and no others) in the extended? */
static bool slots_sane(const struct slots *s, uint64_t size)
{
	const struct slot *box = slots_container(s);
	uint64_t at = 0;

	if (s->count > LAYOUT_REGIONS_MAX / 2)
		return false;
	for (size_t i = 0; i < s->count; i++) {
		const struct slot *p = &s->items[i];

		if (!p->length || p->start > size || p->length > size - p->start)
			return false;
		/* protective MBR without a GPT that can be read: what is inside is anyone's guess */
		if (p->type && !strcmp(p->type, "0xee"))
			return false;
		if (p->container) {
			if (p != box)
				return false;
			continue;
		}
		if (p->start < at)
			return false;
		at = p->start + p->length;
		if (p->nested && (!box || !slot_inside(p, box)))
			return false;
		if (!p->nested && box && !slot_apart(p, box))
			return false;
	}
	return true;
}

static void layout_add_gap(struct layout *l, uint64_t start, uint64_t end, bool in_extended)
{
	if (end <= start)
		return;
	l->regions[l->n_regions++] = (struct layout_region){
		.kind = LAYOUT_GAP,
		.in_extended = in_extended,
		.start = start,
		.length = end - start,
	};
}

/* The space [start, end) between partitions, cut at the ends of the extended partition @box. */
static void layout_add_space(struct layout *l, uint64_t start, uint64_t end, const struct slot *box)
{
	uint64_t in = box ? MIN(MAX(box->start, start), end) : end;
	uint64_t out = box ? MIN(MAX(box->start + box->length, in), end) : end;

	layout_add_gap(l, start, in, false);
	layout_add_gap(l, in, out, true);
	layout_add_gap(l, out, end, false);
}

static int layout_from_slots(struct layout *l, struct slots *s)
{
	const struct slot *box = slots_container(s);
	uint64_t at = 0;

	l->regions = calloc(4 * s->count + 4, sizeof(*l->regions));
	if (!l->regions)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++) {
		struct slot *p = &s->items[i];

		if (p->container)
			continue;
		layout_add_space(l, at, p->start, box);
		l->regions[l->n_regions++] = (struct layout_region){
			.kind = LAYOUT_PARTITION,
			.partition = p->number,
			.start = p->start,
			.length = p->length,
			.type = TAKE_PTR(p->type),
			.name = TAKE_PTR(p->name),
			.uuid = TAKE_PTR(p->uuid),
			.flags = TAKE_PTR(p->flags),
		};
		at = p->start + p->length;
	}
	layout_add_space(l, at, l->size, box);
	return 0;
}

/* The table as text that sfdisk takes back; for people, so its absence is no error. */
static char *layout_script(struct fdisk_context *cxt)
{
	_cleanup_(script_freep) struct fdisk_script *dp = fdisk_new_script(cxt);
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *f;
	int r;

	if (!dp || fdisk_script_read_context(dp, NULL) < 0)
		return NULL;
	f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	r = fdisk_script_write_file(dp, f);
	if (fclose(f) != 0 || r < 0)
		return NULL;
	return TAKE_PTR(text);
}

/* Regions from the partition table. -ENOENT: it is empty; -EBADMSG: it cannot be believed. */
static int layout_from_table(struct layout *l, int fd, const char *name, const char *type)
{
	_cleanup_(context_freep) struct fdisk_context *cxt = fdisk_new_context();
	_cleanup_(slots_done) struct slots slots = { 0 };
	bool gpt = !strcmp(type, "gpt");
	char *id = NULL;
	int r;

	if (!gpt && strcmp(type, "dos") != 0)
		return -EBADMSG;
	if (!cxt)
		return -ENOMEM;
	fdisk_disable_dialogs(cxt, 1);
	if (fdisk_save_user_sector_size(cxt, l->sector_size, l->sector_size) < 0)
		return -EBADMSG;
	if (fdisk_assign_device_by_fd(cxt, fd, name, 1) < 0)
		return -EBADMSG;
	if (!fdisk_is_label(cxt, GPT) != !gpt || !fdisk_is_label(cxt, DOS) != gpt)
		return -EBADMSG;
	r = slots_read(cxt, gpt, &slots);
	if (r < 0)
		return r;
	if (!slots.count)
		return -ENOENT;
	if (!slots_sane(&slots, l->size))
		return -EBADMSG;
	r = layout_from_slots(l, &slots);
	if (r < 0)
		return r;
	if (fdisk_get_disklabel_id(cxt, &id) == 0)
		l->table_id = id;
	l->table_script = layout_script(cxt);
	l->table = strdup(type);
	return l->table ? 0 : -ENOMEM;
}

/* One region over everything, with the file system that was found on it. */
static int layout_whole(struct layout *l, struct layout_region *whole)
{
	l->regions = calloc(1, sizeof(*l->regions));
	l->table = strdup("none");
	if (!l->regions || !l->table)
		return -ENOMEM;
	l->regions[0] = *whole;
	l->n_regions = 1;
	*whole = (struct layout_region){ 0 };
	return 0;
}

static void region_done(struct layout_region *r)
{
	free(r->type);
	free(r->name);
	free(r->uuid);
	free(r->flags);
	free(r->fs_type);
	free(r->fs_uuid);
	free(r->fs_label);
	*r = (struct layout_region){ 0 };
}

/* Back to a size and a sector size. */
static void layout_clear(struct layout *l)
{
	for (size_t i = 0; i < l->n_regions; i++)
		region_done(&l->regions[i]);
	free(l->regions);
	free(l->table);
	free(l->table_id);
	free(l->table_script);
	*l = (struct layout){ .size = l->size, .sector_size = l->sector_size };
}

static int layout_fill(struct layout *l, int fd, const char *name)
{
	_cleanup_(region_done) struct layout_region whole = { .kind = LAYOUT_WHOLE,
							      .length = l->size };
	_cleanup_free_ char *type = NULL;
	int r, signature;

	r = table_type(fd, l->size, l->sector_size, &type);
	if (r < 0)
		return r;
	signature = region_identify(fd, l->sector_size, &whole);
	if (signature < 0)
		return signature;
	if (!type)
		return layout_whole(l, &whole);
	r = layout_from_table(l, fd, name, type);
	/* an empty table is also what the boot code of an exFAT or of a boot loader looks like */
	if (r == -ENOENT)
		return layout_whole(l, &whole);
	if (r != -EBADMSG && (r < 0 || !signature))
		return r;
	/*
	 * The table contradicts itself, or beside it something claims the disk as a whole (a hybrid ISO
	 * image, a RAID member, what an earlier life left behind): nobody knows what is real.
	 */
	layout_clear(l);
	region_done(&whole);
	whole = (struct layout_region){ .kind = LAYOUT_WHOLE, .length = l->size };
	return layout_whole(l, &whole);
}

int layout_probe(int fd, const char *name, uint64_t size, uint32_t sector_size, struct layout **ret,
		 struct err *e)
{
	_cleanup_(layout_freep) struct layout *l = NULL;
	int r;

	if (!size || size > INT64_MAX || sector_size < 512 || sector_size > 65536 ||
	    (sector_size & (sector_size - 1))) {
		return err_set(e, -EINVAL, "%s: a size of %llu bytes in sectors of %u bytes", name,
			       (unsigned long long)size, sector_size);
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_oom(e);
	l->size = size;
	l->sector_size = sector_size;
	r = layout_fill(l, fd, name);
	if (r < 0)
		return r == -ENOMEM ? err_oom(e) : err_set_errno(e, r, "%s: layout", name);
	for (size_t i = 0; i < l->n_regions; i++) {
		if (l->regions[i].kind != LAYOUT_PARTITION)
			continue;
		r = region_identify(fd, sector_size, &l->regions[i]);
		if (r < 0)
			return err_oom(e);
	}
	*ret = TAKE_PTR(l);
	return 0;
}

void layout_free(struct layout *l)
{
	if (l)
		layout_clear(l);
	free(l);
}
