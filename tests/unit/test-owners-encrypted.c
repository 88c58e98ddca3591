/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose bytes of an ext4 with encrypted directories: told, but names that nobody can read are none. Root. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fscrypt.h>

#include <cmocka.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/layout/owners.h"

#define DISK_BYTES (UINT64_C(16) << 20)
#define KEY_BYTES  64

static char dir[] = "/var/tmp/test-owners-encrypted-XXXXXX";
static uint64_t secret, below, plain; /* inodes */

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0) /* NOLINT(cert-env33-c) */
		fail_msg("%s", command);
}

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
	char path[128], data[5000] = { 'x' };
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	snprintf(path, sizeof(path), "%s/mnt/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(io_pwrite_all(fd, data, sizeof(data), 0), 0);
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static int disk_read(void *ctx, void *buf, size_t len, uint64_t offset, struct err *e)
{
	(void)e;
	return io_pread_all(*(int *)ctx, buf, len, offset);
}

static void names_that_cannot_be_read_are_none(void **state)
{
	char path[128];
	struct extent all = { 0, DISK_BYTES };
	const struct extent_set wanted = { .items = &all, .count = 1 };
	uint64_t secret_bytes = 0, plain_bytes = 0, below_bytes = 0;
	struct owners_io io = { .read = disk_read, .size = DISK_BYTES };
	struct owners o;
	struct err e = { 0 };
	int fd;

	snprintf(path, sizeof(path), "%s/disk", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	io.ctx = &fd;
	assert_int_equal(owners_find("ext4", &io, &wanted, NULL, &o, &e), 0);
	close(fd);
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
	char path[128];
	bool can;

	assert_non_null(mkdtemp(dir));
	run("truncate -s %llu %s/disk && mkfs.ext4 -q -F -b 4096 -O encrypt %s/disk && mkdir %s/mnt && "
	    "mount -o loop %s/disk %s/mnt && mkdir %s/mnt/closed",
	    (unsigned long long)DISK_BYTES, dir, dir, dir, dir, dir, dir);
	snprintf(path, sizeof(path), "%s/mnt/closed", dir);
	can = encrypt(path);
	plain = write_file("plain");
	if (can) {
		secret = write_file("closed/secret");
		run("mkdir %s/mnt/closed/sub", dir);
		below = write_file("closed/sub/below");
	}
	run("umount %s/mnt", dir);
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
	run("rm -r %s", dir);
	return r;
}
