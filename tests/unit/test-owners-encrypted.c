/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of an ext4 with encrypted directories: told, but names that nobody can read are none. Root. */
#include <sys/ioctl.h>

#include <linux/fscrypt.h>

#include "tests/unit/owners-scene.h"

#define DISK_BYTES (UINT64_C(16) << 20)
#define KEY_BYTES  64

static struct scene_disk disk;
static uint64_t secret, below, plain; /* inodes */

/* False: this kernel has none. */
static bool encrypt(const char *path)
{
	union {
		struct fscrypt_add_key_arg arg;
		uint8_t room[sizeof(struct fscrypt_add_key_arg) + KEY_BYTES];
	} key = { .arg = { .key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER,
			   .raw_size = KEY_BYTES } };
	struct fscrypt_policy_v2 policy = {
		.version = FSCRYPT_POLICY_V2,
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
		.flags = FSCRYPT_POLICY_FLAGS_PAD_32,
	};
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	memset(key.room + sizeof(key.arg), 'k', KEY_BYTES);
	if (ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, &key) < 0)
		return false;
	memcpy(policy.master_key_identifier, key.arg.key_spec.u.identifier,
	       sizeof(policy.master_key_identifier));
	assert_int_equal(ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy), 0);
	return true;
}

static uint64_t write_file(const char *name)
{
	_cleanup_close_ int fd = scene_open(name);
	const char data[5000] = { 'x' };
	struct stat st;

	assert_int_equal(io_pwrite_all(fd, data, sizeof(data), 0), 0);
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static void names_that_cannot_be_read_are_none(void **state)
{
	uint64_t secret_bytes = 0, plain_bytes = 0, below_bytes = 0;
	struct owners o;
	struct err e = { 0 };

	assert_int_equal(scene_find_all(&disk, NULL, &o, &e), 0);
	assert_false(o.incomplete);
	for (size_t i = 0; i < o.count; i++) {
		const struct owner *x = &o.items[i];

		if (x->inode == plain)
			assert_string_equal(x->path, "/plain");
		if (x->inode == secret || x->inode == below)
			assert_null(x->path);
		if (x->kind != OWNER_DATA)
			continue;
		secret_bytes += x->inode == secret ? x->length : 0;
		below_bytes += x->inode == below ? x->length : 0;
		plain_bytes += x->inode == plain ? x->length : 0;
	}
	/* the rest of the last block may be needed to decrypt it */
	assert_int_equal(secret_bytes, 8192);
	assert_int_equal(below_bytes, 8192);
	assert_int_equal(plain_bytes, 5000);
	owners_done(&o);
}

/* False: nothing to be tested here. */
static bool make(void)
{
	bool can;

	scene_disk_begin(&disk, "/var/tmp", "encrypted", "ext4", DISK_BYTES);
	scene_run("mkfs.ext4 -q -F -b 4096 -O encrypt %s", disk.file);
	scene_mount(&disk);
	assert_int_equal(mkdir("closed", 0755), 0);
	can = encrypt("closed");
	plain = write_file("plain");
	if (can) {
		secret = write_file("closed/secret");
		assert_int_equal(mkdir("closed/sub", 0755), 0);
		below = write_file("closed/sub/below");
	}
	assert_int_equal(chdir("/"), 0);
	scene_run("umount %s", disk.mnt);
	scene_map(&disk);
	return can;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_cannot_be_read_are_none),
	};
	int r = 77;

	if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0) {
		puts("skipped: needs root and loop devices");
		return 77;
	}
	if (make()) {
		r = cmocka_run_group_tests(tests, NULL, NULL);
	} else {
		puts("skipped: this kernel does not encrypt files");
	}
	scene_disk_end(&disk);
	return r;
}
