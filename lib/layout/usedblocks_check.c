/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/layout/usedblocks_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/le.h"

struct fat_boot {
	uint8_t jump[3], oem[8];
	le16_t sector_bytes;
	uint8_t cluster_sectors;
	le16_t reserved_sectors;
	uint8_t fats;
	le16_t root_entries, sectors_small;
	uint8_t media;
	le16_t fat_sectors_small;
	uint8_t unused[8];
	le32_t sectors;
	union {
		struct {
			uint8_t unused[18], name[8];
		} fat16;
		struct {
			le32_t fat_sectors;
			uint8_t unused[42], name[8];
		} fat32;
	};
};
_Static_assert(offsetof(struct fat_boot, fat16.name) == 54, "FAT16's name is at 54");
_Static_assert(offsetof(struct fat_boot, fat32.name) == 82, "FAT32's name is at 82");

/* The number of clusters, which alone says how wide the entries of the table are; 0: makes no sense. */
static uint64_t fat_clusters(const struct fat_boot *b)
{
	uint64_t sector = le16_get(b->sector_bytes), sectors = le16_get(b->sectors_small);
	uint64_t fat = le16_get(b->fat_sectors_small), before;

	if (!sector || !b->cluster_sectors)
		return 0;
	if (!sectors)
		sectors = le32_get(b->sectors);
	if (!fat)
		fat = le32_get(b->fat32.fat_sectors);
	before = le16_get(b->reserved_sectors) + b->fats * fat +
		 DIV_ROUND_UP(le16_get(b->root_entries) * UINT64_C(32), sector);
	return sectors > before ? (sectors - before) / b->cluster_sectors : 0;
}

const char *usedblocks_check_vfat(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fat_boot b;
	uint64_t clusters;

	if (fd < 0 || io_pread_all(fd, &b, sizeof(b), 0) < 0)
		return "its boot sector cannot be read";
	clusters = fat_clusters(&b);
	/* measured: partclone 0.3.23 counts too little in a FAT12, which is small anyway */
	if (clusters < 4085)
		return "it is a FAT12";
	/* partclone goes by the name, everyone else by the number: they must agree */
	if (memcmp(clusters < 65525 ? b.fat16.name : b.fat32.name,
		   clusters < 65525 ? "FAT16   " : "FAT32   ", 8) != 0)
		return "its name does not fit its size";
	return NULL;
}

struct exfat_boot {
	uint8_t jump[3], oem[8], unused1[77];
	le32_t heap_sector, clusters;
	uint8_t unused2[12], sector_shift, cluster_shift;
};
_Static_assert(offsetof(struct exfat_boot, heap_sector) == 88,
	       "the cluster heap's offset is at 88");
_Static_assert(offsetof(struct exfat_boot, sector_shift) == 108, "the sector's shift is at 108");

const char *usedblocks_exfat_tail(const char *path, uint64_t length, uint64_t *ret_start)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t sector, cluster, clusters, end;
	struct exfat_boot b;

	if (fd < 0 || io_pread_all(fd, &b, sizeof(b), 0) < 0 || memcmp(b.oem, "EXFAT   ", 8) != 0)
		return "its boot sector cannot be read";
	clusters = le32_get(b.clusters);
	if (b.sector_shift < 9 || b.sector_shift > 12 || b.cluster_shift > 25 - b.sector_shift ||
	    clusters < 2)
		return "its boot sector makes no sense";
	sector = UINT64_C(1) << b.sector_shift;
	cluster = sector << b.cluster_shift;
	/* 32 bits of clusters of at most 2^25 bytes, and 32 bits of sectors of 2^12: no overflow */
	end = le32_get(b.heap_sector) * sector + clusters * cluster;
	if (end > length)
		return "it is larger than its place";
	*ret_start = end - 2 * cluster;
	return NULL;
}

/* The first super block; what is used of it. */
struct btrfs_super {
	uint8_t checksum[32], fsid[16];
	le64_t bytenr, flags;
	char magic[8];
	le64_t generation, root, chunk_root, log_root, log_root_transid, total_bytes, bytes_used,
		root_dir_objectid, num_devices;
};
_Static_assert(offsetof(struct btrfs_super, log_root) == 96, "log_root is at 96");
_Static_assert(offsetof(struct btrfs_super, num_devices) == 136, "num_devices is at 136");
#define BTRFS_SUPER_OFFSET 65536

const char *usedblocks_check_btrfs(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct btrfs_super s;

	if (fd < 0 || io_pread_all(fd, &s, sizeof(s), BTRFS_SUPER_OFFSET) < 0 ||
	    memcmp(s.magic, "_BHRfS_M", 8) != 0)
		return "its super block cannot be read";
	if (le64_get(s.log_root))
		return "its log is not replayed";
	if (le64_get(s.num_devices) != 1)
		return "it is on several devices";
	return NULL;
}

struct f2fs_super {
	le32_t magic;
	uint8_t unused1[12];
	le32_t log_blocksize, log_blocks_per_segment;
	uint8_t unused2[12];
	le64_t block_count;
	uint8_t unused3[32];
	le32_t checkpoint_block;
};
_Static_assert(offsetof(struct f2fs_super, block_count) == 36, "block_count is at 36");
_Static_assert(offsetof(struct f2fs_super, checkpoint_block) == 76, "cp_blkaddr is at 76");
#define F2FS_SUPER_OFFSET 1024
#define F2FS_SUPER_MAGIC  0xf2f52010u

struct f2fs_checkpoint {
	le64_t version;
	uint8_t unused[124];
	le32_t flags, pack_blocks;
};
_Static_assert(offsetof(struct f2fs_checkpoint, flags) == 132, "ckpt_flags is at 132");
#define F2FS_BLOCK_BYTES       UINT64_C(4096)
#define F2FS_CHECKPOINT_UMOUNT 1u

/* A checkpoint pack begins and ends with the same version, or it was torn. */
static int f2fs_pack(int fd, uint64_t block, struct f2fs_checkpoint *ret)
{
	struct f2fs_checkpoint last;
	uint64_t count;

	if (io_pread_all(fd, ret, sizeof(*ret), block * F2FS_BLOCK_BYTES) < 0)
		return -EBADMSG;
	count = le32_get(ret->pack_blocks);
	if (!count ||
	    io_pread_all(fd, &last, sizeof(last), (block + count - 1) * F2FS_BLOCK_BYTES) < 0)
		return -EBADMSG;
	return le64_get(last.version) == le64_get(ret->version) ? 0 : -EBADMSG;
}

static bool f2fs_clean(int fd, uint64_t length)
{
	struct f2fs_checkpoint a, b;
	struct f2fs_super s;
	uint64_t block;
	uint32_t shift;

	if (io_pread_all(fd, &s, sizeof(s), F2FS_SUPER_OFFSET) < 0 ||
	    le32_get(s.magic) != F2FS_SUPER_MAGIC || le32_get(s.log_blocksize) != 12)
		return false;
	shift = le32_get(s.log_blocks_per_segment);
	if (shift > 20 || le64_get(s.block_count) > length / F2FS_BLOCK_BYTES)
		return false;
	block = le32_get(s.checkpoint_block);
	if (f2fs_pack(fd, block, &a) < 0 || f2fs_pack(fd, block + (UINT64_C(1) << shift), &b) < 0)
		return false;
	if (le64_get(b.version) > le64_get(a.version))
		a = b;
	return le32_get(a.flags) & F2FS_CHECKPOINT_UMOUNT;
}

const char *usedblocks_check_f2fs(const char *path, uint64_t length)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && f2fs_clean(fd, length) ? NULL
						 : "its last checkpoint is not that of an unmount";
}
