/* SPDX-License-Identifier: GPL-2.0-or-later */
/* replay - run a fuzz target over files and the files of directories, once each, as an ordinary test. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "tests/fuzz/fuzz.h"

static int replay_file(int dir_fd, const char *name)
{
	_cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ uint8_t *data = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	/* exactly as long as the file, so that the sanitizer sees one byte too far */
	data = malloc((size_t)st.st_size ? (size_t)st.st_size : 1);
	if (!data)
		return -ENOMEM;
	r = io_read_all(fd, data, (size_t)st.st_size);
	if (r < 0)
		return r;
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	return 1;
}

/* Returns how many files were run, or a negative errno. */
static int replay_path(const char *path)
{
	_cleanup_dir_ DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return errno == ENOTDIR ? replay_file(AT_FDCWD, path) : -errno;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	while ((entry = readdir(dir))) {
		int r = replay_file(dirfd(dir), entry->d_name);

		if (r < 0)
			return r;
		count += r;
	}
	return count;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++) {
		int r = replay_path(argv[i]);

		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerrordesc_np(-r));
			return 1;
		}
		count += r;
	}
	printf("%d inputs replayed\n", count);
	return 0;
}
