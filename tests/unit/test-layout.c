/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables are made by sfdisk, file systems by their own mkfs, in files: no root needed. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libfdisk.h>

#include "lib/base/io.h"
#include "lib/layout/layout.h"

#define MIB	   (UINT64_C(1) << 20)
#define IMAGE_SIZE (200 * MIB)

static char image[] = "/tmp/test-layout-XXXXXX";

static int image_make(void **state)
{
	int fd = mkstemp(image);

	if (fd < 0 || ftruncate(fd, IMAGE_SIZE) < 0)
		return -1;
	close(fd);
	return 0;
}

static int image_remove(void **state)
{
	return unlink(image);
}

/* Run by the shell with $I for the image. */
static void image_run(const char *format, ...)
{
	char command[2048], text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	snprintf(command, sizeof(command),
		 "PATH=$PATH:/usr/sbin:/sbin; I=%s; { %s; } >/dev/null 2>&1", image, text);
	/* NOLINTNEXTLINE(cert-env33-c,concurrency-mt-unsafe): a test's own command */
	assert_int_equal(system(command), 0);
}

static void image_clear(void)
{
	assert_int_equal(truncate(image, 0), 0);
	assert_int_equal(truncate(image, IMAGE_SIZE), 0);
}

static struct layout *image_probe(uint32_t sector_size)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	struct layout *l = NULL;
	struct err e = { 0 };
	uint64_t at = 0;

	assert_true(fd >= 0);
	assert_int_equal(layout_probe(fd, "image", IMAGE_SIZE, sector_size, &l, &e), 0);
	close(fd);
	for (size_t i = 0; i < l->n_regions; i++) {
		assert_int_equal(l->regions[i].start, at);
		assert_true(l->regions[i].length > 0);
		at += l->regions[i].length;
	}
	assert_int_equal(at, IMAGE_SIZE);
	return l;
}

static void assert_whole(struct layout *l, const char *fs_type)
{
	assert_string_equal(l->table, "none");
	assert_int_equal(l->n_regions, 1);
	assert_int_equal(l->regions[0].kind, LAYOUT_WHOLE);
	if (fs_type) {
		assert_string_equal(l->regions[0].fs_type, fs_type);
	} else {
		assert_null(l->regions[0].fs_type);
	}
	layout_free(l);
}

static void a_gpt_with_gaps_becomes_partitions_and_gaps(void **state)
{
	struct layout *l;

	image_clear();
	image_run("printf 'label: gpt\\nlabel-id: 11111111-2222-3333-4444-555555555555\\n"
		  "start=1MiB,size=20MiB,name=one,type=U\\nstart=30MiB,size=20MiB,type=S\\n"
		  "start=60MiB,size=30MiB\\nstart=100MiB,size=50MiB\\n' | sfdisk $I;"
		  "truncate -s 20M $I.w; mkswap $I.w;"
		  "dd if=$I.w of=$I bs=1M seek=30 conv=notrunc; rm $I.w");
	l = image_probe(512);
	assert_string_equal(l->table, "gpt");
	assert_string_equal(l->table_id, "11111111-2222-3333-4444-555555555555");
	assert_non_null(strstr(l->table_script, "label: gpt"));
	assert_int_equal(l->n_regions, 9);
	assert_int_equal(l->regions[0].kind, LAYOUT_GAP);
	assert_int_equal(l->regions[1].kind, LAYOUT_PARTITION);
	assert_int_equal(l->regions[1].partition, 1);
	assert_int_equal(l->regions[1].start, MIB);
	assert_int_equal(l->regions[1].length, 20 * MIB);
	assert_string_equal(l->regions[1].name, "one");
	assert_string_equal(l->regions[1].type, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
	assert_non_null(l->regions[1].uuid);
	assert_null(l->regions[1].fs_type);
	assert_string_equal(l->regions[3].fs_type, "swap");
	assert_int_equal(l->regions[8].kind, LAYOUT_GAP);
	layout_free(l);
}

/* sfdisk takes the sector size of a file as 512, whatever one says. */
static void gpt_make_4k(void)
{
	struct fdisk_context *cxt = fdisk_new_context();
	struct fdisk_partition *pa = fdisk_new_partition();

	fdisk_disable_dialogs(cxt, 1);
	assert_int_equal(fdisk_save_user_sector_size(cxt, 4096, 4096), 0);
	assert_int_equal(fdisk_assign_device(cxt, image, 0), 0);
	assert_int_equal(fdisk_create_disklabel(cxt, "gpt"), 0);
	assert_int_equal(fdisk_partition_set_start(pa, 256), 0);
	assert_int_equal(fdisk_partition_set_size(pa, 2560), 0);
	assert_int_equal(fdisk_partition_set_partno(pa, 0), 0);
	assert_int_equal(fdisk_add_partition(cxt, pa, NULL), 0);
	assert_int_equal(fdisk_write_disklabel(cxt), 0);
	fdisk_unref_partition(pa);
	fdisk_unref_context(cxt);
}

static void a_gpt_in_4_kib_sectors_is_read_with_that_sector_size(void **state)
{
	struct layout *l;

	image_clear();
	gpt_make_4k();
	l = image_probe(4096);
	assert_string_equal(l->table, "gpt");
	assert_int_equal(l->n_regions, 3);
	assert_int_equal(l->regions[1].start, MIB);
	assert_int_equal(l->regions[1].length, 10 * MIB);
	layout_free(l);
}

static void logical_partitions_are_regions_and_the_extended_one_is_not(void **state)
{
	struct layout *l;

	image_clear();
	image_run("printf 'label: dos\\nlabel-id: 0xabcdef01\\nstart=1MiB,size=10MiB,bootable\\n"
		  "start=20MiB,size=150MiB,type=5\\nstart=21MiB,size=30MiB\\n"
		  "start=60MiB,size=30MiB\\n' | sfdisk $I");
	l = image_probe(512);
	assert_string_equal(l->table, "dos");
	assert_string_equal(l->table_id, "0xabcdef01");
	/* gap, 1, gap, gap in extended, 5, gap in extended, 6, gap in extended, gap */
	assert_int_equal(l->n_regions, 9);
	assert_string_equal(l->regions[1].flags, "boot");
	assert_string_equal(l->regions[1].type, "0x83");
	assert_false(l->regions[2].in_extended);
	assert_true(l->regions[3].in_extended);
	assert_int_equal(l->regions[3].start, 20 * MIB);
	assert_int_equal(l->regions[4].partition, 5);
	assert_true(l->regions[5].in_extended);
	assert_int_equal(l->regions[6].partition, 6);
	assert_true(l->regions[7].in_extended);
	assert_int_equal(l->regions[8].start, 170 * MIB);
	assert_false(l->regions[8].in_extended);
	layout_free(l);
}

static void zeros_are_one_unknown_region(void **state)
{
	image_clear();
	assert_whole(image_probe(512), NULL);
}

static void garbage_is_one_unknown_region(void **state)
{
	image_clear();
	image_run("head -c 4M /dev/urandom | dd of=$I conv=notrunc bs=1M;"
		  "printf '\\125\\252' | dd of=$I bs=1 seek=510 conv=notrunc");
	assert_whole(image_probe(512), NULL);
}

static void a_fat_boot_sector_is_not_a_partition_table(void **state)
{
	image_clear();
	image_run("mkfs.vfat $I");
	assert_whole(image_probe(512), "vfat");
}

static void an_ntfs_boot_sector_is_not_a_partition_table(void **state)
{
	image_clear();
	image_run("mkfs.ntfs -F -Q $I");
	assert_whole(image_probe(512), "ntfs");
}

static void an_exfat_boot_sector_is_not_a_partition_table(void **state)
{
	image_clear();
	image_run("mkfs.exfat $I");
	assert_whole(image_probe(512), "exfat");
}

static void a_file_system_without_a_table_is_one_region(void **state)
{
	struct layout *l;

	image_clear();
	image_run("mkfs.ext4 -q -F -L label $I");
	l = image_probe(512);
	assert_string_equal(l->regions[0].fs_label, "label");
	assert_whole(l, "ext4");
}

static void a_protective_mbr_without_a_gpt_is_not_believed(void **state)
{
	image_clear();
	image_run("printf 'label: gpt\\nstart=1MiB,size=20MiB\\n' | sfdisk $I;"
		  "dd if=/dev/zero of=$I bs=512 seek=1 count=33 conv=notrunc;"
		  "dd if=/dev/zero of=$I bs=1M seek=199 count=1 conv=notrunc");
	assert_whole(image_probe(512), NULL);
}

static void overlapping_partitions_are_not_believed(void **state)
{
	image_clear();
	/* the second entry of a DOS table, moved into the first: start at 446 + 16 + 8 */
	image_run(
		"printf 'label: dos\\nstart=1MiB,size=50MiB\\nstart=60MiB,size=50MiB\\n' | sfdisk $I;"
		"printf '\\000\\020\\000\\000' | dd of=$I bs=1 seek=470 conv=notrunc");
	assert_whole(image_probe(512), NULL);
}

static void a_signature_beside_a_table_that_is_not_believed_is_not_believed_either(void **state)
{
	image_clear();
	image_run("mkfs.ext4 -q -F $I;"
		  "printf 'label: dos\\nstart=1MiB,size=50MiB\\n' | sfdisk --wipe never $I;"
		  "printf '\\377\\377\\377\\000' | dd of=$I bs=1 seek=458 conv=notrunc");
	assert_whole(image_probe(512), NULL);
}

static void a_partition_beyond_the_end_is_not_believed(void **state)
{
	image_clear();
	image_run("printf 'label: dos\\nstart=1MiB,size=50MiB\\n' | sfdisk $I;"
		  "printf '\\377\\377\\377\\000' | dd of=$I bs=1 seek=458 conv=notrunc");
	assert_whole(image_probe(512), NULL);
}

static void a_table_beside_a_signature_of_the_whole_disk_is_not_believed(void **state)
{
	image_clear();
	image_run("mkfs.ext4 -q -F $I;"
		  "printf 'label: dos\\nstart=1MiB,size=50MiB\\n' | sfdisk --wipe never $I");
	assert_whole(image_probe(512), NULL);
}

static void an_empty_table_is_one_unknown_region(void **state)
{
	image_clear();
	image_run("printf 'label: gpt\\n' | sfdisk $I");
	assert_whole(image_probe(512), NULL);
}

static void a_damaged_first_gpt_is_read_from_its_backup_or_not_at_all(void **state)
{
	struct layout *l;

	image_clear();
	image_run("printf 'label: gpt\\nstart=1MiB,size=20MiB\\n' | sfdisk $I;"
		  "dd if=/dev/zero of=$I bs=512 seek=1 count=33 conv=notrunc");
	l = image_probe(512);
	assert_true(l->n_regions == 1 || l->regions[1].start == MIB);
	layout_free(l);
}

static void a_size_of_nothing_is_an_error(void **state)
{
	struct layout *l = NULL;
	struct err e = { 0 };

	assert_int_equal(layout_probe(0, "x", 0, 512, &l, &e), -EINVAL);
	assert_int_equal(layout_probe(0, "x", MIB, 513, &l, &e), -EINVAL);
	assert_null(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_gpt_with_gaps_becomes_partitions_and_gaps),
		cmocka_unit_test(a_gpt_in_4_kib_sectors_is_read_with_that_sector_size),
		cmocka_unit_test(logical_partitions_are_regions_and_the_extended_one_is_not),
		cmocka_unit_test(zeros_are_one_unknown_region),
		cmocka_unit_test(garbage_is_one_unknown_region),
		cmocka_unit_test(a_fat_boot_sector_is_not_a_partition_table),
		cmocka_unit_test(an_ntfs_boot_sector_is_not_a_partition_table),
		cmocka_unit_test(an_exfat_boot_sector_is_not_a_partition_table),
		cmocka_unit_test(a_file_system_without_a_table_is_one_region),
		cmocka_unit_test(a_protective_mbr_without_a_gpt_is_not_believed),
		cmocka_unit_test(overlapping_partitions_are_not_believed),
		cmocka_unit_test(
			a_signature_beside_a_table_that_is_not_believed_is_not_believed_either),
		cmocka_unit_test(a_partition_beyond_the_end_is_not_believed),
		cmocka_unit_test(a_table_beside_a_signature_of_the_whole_disk_is_not_believed),
		cmocka_unit_test(an_empty_table_is_one_unknown_region),
		cmocka_unit_test(a_damaged_first_gpt_is_read_from_its_backup_or_not_at_all),
		cmocka_unit_test(a_size_of_nothing_is_an_error),
	};

	return cmocka_run_group_tests(tests, image_make, image_remove);
}
