/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>

#include <cmocka.h>

#include "agent/freeze.h"
#include "agent/guardian.h"
#include "lib/base/io.h"

/*
 * A small ext4 in a loop device, "low", and on it the file of a second one, "up". Needs root, and ambro-guardian to be built.
 */
struct stage {
	char dir[64];
	struct disk_mount mounts[2]; /* low, up */
};

/* In @dir: every command must succeed, unless it says otherwise. */
static int stage_run(const char *dir, const char *commands)
{
	char script[1024];

	snprintf(script, sizeof(script), "cd %s && export PATH=$PATH:/usr/sbin:/sbin && set -e\n%s",
		 dir, commands);
	return system(script); /* NOLINT(cert-env33-c): a test's own words */
}

static const char stage_make[] =
	"one() { truncate -s $2 $1; mkfs.ext4 -q -F $1; mount -o loop $1 $3; }\n"
	"mkdir low up; one low.img 64M low; one low/up.img 24M up";
/* whatever a failed test left: frozen, or open */
static const char stage_end[] = "timeout 5 fsfreeze -u low 2>/dev/null || :\n"
				"timeout 5 fsfreeze -u up 2>/dev/null || :\n"
				"umount up || umount -l up; umount low || umount -l low\n"
				"rm -rf --one-file-system low up low.img";

static int mount_id(const char *path)
{
	struct statx sx;

	assert_int_equal(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &sx), 0);
	return (int)sx.stx_mnt_id;
}

static int stage_setup(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	char path[128];

	strcpy(s->dir, "/dev/shm/test-freeze.XXXXXX");
	if (!mkdtemp(s->dir) || stage_run(s->dir, stage_make) != 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", s->dir, i ? "up" : "low");
		s->mounts[i].path = strdup(path);
		s->mounts[i].mount_id = mount_id(path);
	}
	*state = s;
	return 0;
}

static int stage_teardown(void **state)
{
	struct stage *s = *state;

	stage_run(s->dir, stage_end);
	rmdir(s->dir);
	for (int i = 0; i < 2; i++)
		free(s->mounts[i].path);
	free(s);
	return 0;
}

/* Is the file system of @m frozen? A freeze of somebody who comes then is refused. */
static bool is_frozen(const struct disk_mount *m)
{
	int fd = open(m->path, O_RDONLY | O_CLOEXEC), r, error;

	assert_true(fd >= 0);
	r = ioctl(fd, FIFREEZE, 0);
	error = errno;
	if (r == 0)
		assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
	assert_true(r == 0 || error == EBUSY);
	return r < 0;
}

static void wait_ms(unsigned int ms)
{
	nanosleep(&(struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 }, NULL);
}

static struct freeze *freeze_made(const struct stage *s, unsigned int max_ms)
{
	struct freeze *f = NULL;
	struct err e = { 0 };

	if (freeze_new(s->mounts, 2, max_ms, &f, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(freeze_sync(f, &e), 0);
	return f;
}

static void both_stand_still_until_they_are_thawed(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 10000);
	struct err e = { 0 };

	assert_int_equal(freeze_begin(f, &e), 0);
	assert_true(is_frozen(&s->mounts[0]) && is_frozen(&s->mounts[1]));
	assert_false(freeze_expired(f));
	assert_int_equal(freeze_thaw(f, &e), 0);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	assert_true(freeze_duration_ns(f) > 0);
	/* and again */
	assert_int_equal(freeze_begin(f, &e), 0);
	assert_true(is_frozen(&s->mounts[1]));
	freeze_free(f);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
}

static void the_guardian_thaws_at_the_deadline_and_once_only(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 400);
	struct err e = { 0 };
	int fd;

	assert_int_equal(freeze_begin(f, &e), 0);
	wait_ms(1000);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	/* what somebody else freezes after that is his */
	fd = open(s->mounts[0].path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(ioctl(fd, FIFREEZE, 0), 0);
	wait_ms(100);
	assert_true(is_frozen(&s->mounts[0]));
	assert_int_equal(freeze_thaw(f, &e), -ETIME);
	assert_true(is_frozen(&s->mounts[0]));
	assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
	assert_true(freeze_duration_ns(f) < 950000000);
	freeze_free(f);
}

static void somebody_elses_thaw_is_noticed(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 10000);
	struct err e = { 0 };
	int fd = open(s->mounts[0].path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(freeze_begin(f, &e), 0);
	assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
	assert_int_equal(freeze_thaw(f, &e), -EINVAL);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	freeze_free(f);
}

static void somebody_elses_freeze_stays(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 10000);
	struct err e = { 0 };
	int fd = open(s->mounts[1].path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(ioctl(fd, FIFREEZE, 0), 0);
	assert_int_equal(freeze_begin(f, &e), -EBUSY);
	assert_true(is_frozen(&s->mounts[1]));
	assert_false(is_frozen(&s->mounts[0]));
	freeze_free(f);
	assert_true(is_frozen(&s->mounts[1]));
	assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
}

/* The one below was frozen first, so the FIFREEZE of the other waits for it: the guardian must not. */
static void a_freeze_that_waits_for_another_ends_at_the_deadline(void **state)
{
	struct stage *s = *state;
	struct stage turned = { .mounts = { s->mounts[1], s->mounts[0] } };
	struct freeze *f = freeze_made(&turned, 500);
	struct err e = { 0 };
	uint64_t began;
	char path[160];
	int fd;

	/* something for it to flush */
	snprintf(path, sizeof(path), "%s/file", s->mounts[1].path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, path, sizeof(path)), sizeof(path));
	close(fd);
	began = io_now_ns();
	assert_true(freeze_begin(f, &e) == 0 || e.code == -ETIME);
	assert_int_not_equal(freeze_thaw(f, &e), -EINVAL);
	assert_true(io_now_ns() - began < 3000000000);
	freeze_free(f);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
}

static void a_covered_mount_is_refused(void **state)
{
	struct stage *s = *state;
	struct freeze *f = NULL;
	struct err e = { 0 };

	assert_int_equal(mount("none", s->mounts[1].path, "tmpfs", 0, NULL), 0);
	assert_int_equal(freeze_new(s->mounts, 2, 1000, &f, &e), -ESTALE);
	assert_int_equal(umount(s->mounts[1].path), 0);
	assert_non_null(strstr(e.text, s->mounts[1].path));
}

/* A child freezes and is killed, before or behind its deadline. */
static void killed_after(struct stage *s, unsigned int max_ms, unsigned int wait)
{
	int ready[2], gone[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(gone), 0);
	pid = fork();
	if (pid == 0) {
		struct freeze *f = NULL;

		/* `gone` goes on to the guardian, at a number that it has no use for, and ends with it */
		if (fcntl(gone[1], F_DUPFD, 100) < 0)
			_exit(1);
		if (freeze_new(s->mounts, 2, max_ms, &f, NULL) < 0 || freeze_begin(f, NULL) < 0)
			_exit(1);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	close(gone[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	wait_ms(wait);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	alarm(5);
	assert_int_equal(read(gone[0], &byte, 1), 0);
	alarm(0);
	close(ready[0]);
	close(gone[0]);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
}

static void the_guardian_of_a_killed_process_thaws_and_ends(void **state)
{
	killed_after(*state, 20000, 0);
}

static void it_ends_too_when_the_deadline_had_passed(void **state)
{
	killed_after(*state, 400, 800);
}

/* Our child: there is one, the guardian of the last freeze that was made. */
static pid_t guardian_pid(void)
{
	char line[64] = "";
	FILE *f = popen("pgrep -nxP $PPID ambro-guardian", "r");

	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	pclose(f);
	return (pid_t)strtol(line, NULL, 10);
}

static void without_its_guardian_nothing_stays_frozen(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 20000);
	struct err e = { 0 };

	assert_int_equal(freeze_begin(f, &e), 0);
	assert_int_equal(kill(guardian_pid(), SIGKILL), 0);
	for (int i = 0; i < 200 && !freeze_expired(f); i++)
		wait_ms(10);
	assert_true(freeze_expired(f));
	wait_ms(50);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	assert_int_equal(freeze_thaw(f, &e), -ETIME);
	assert_non_null(strstr(e.text, "guardian"));
	assert_int_equal(freeze_begin(f, &e), -EPIPE);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	freeze_free(f);
}

static struct freeze *freeze_guarded(const struct stage *s, struct guardian *g)
{
	struct freeze *f = NULL;
	struct err e = { 0 };

	if (freeze_new_guarded(g, s->mounts, 2, 20000, &f, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(freeze_begin(f, &e), 0);
	assert_true(is_frozen(&s->mounts[0]) && is_frozen(&s->mounts[1]));
	return f;
}

static void one_guardian_serves_many_freezes_and_holds_nothing_between(void **state)
{
	struct guardian g = { 0 };
	struct stage *s = *state;
	pid_t pid = 0;

	assert_int_equal(guardian_start(&g, NULL), 0);
	for (int i = 0; i < 3; i++) {
		struct freeze *f = freeze_guarded(s, &g);
		char path[64];

		if (!i)
			pid = guardian_pid();
		assert_int_equal(guardian_pid(), pid);
		/* which thaws, as they stand still */
		freeze_free(f);
		assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
		for (int fd = 0; fd < 32; fd++) {
			char to[PATH_MAX] = "";

			snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
			if (readlink(path, to, sizeof(to) - 1) > 0)
				assert_int_not_equal(strncmp(to, s->dir, strlen(s->dir)), 0);
		}
	}
	guardian_dismiss(&g);
	guardian_stop(&g);
	guardian_stop(&g);
	assert_int_not_equal(kill(pid, 0), 0);
}

static void a_guardian_that_was_killed_between_freezes_is_replaced(void **state)
{
	struct guardian g = { 0 };
	struct stage *s = *state;
	struct freeze *f = freeze_guarded(s, &g);
	struct err e = { 0 };
	pid_t first = guardian_pid();

	assert_int_equal(freeze_thaw(f, &e), 0);
	freeze_free(f);
	assert_int_equal(kill(first, SIGKILL), 0);
	f = freeze_guarded(s, &g);
	assert_int_not_equal(guardian_pid(), first);
	/* and one that is killed while they stand still thaws no other's file system later */
	assert_int_equal(kill(guardian_pid(), SIGKILL), 0);
	for (int i = 0; i < 200 && !freeze_expired(f); i++)
		wait_ms(10);
	freeze_free(f);
	assert_false(is_frozen(&s->mounts[0]) || is_frozen(&s->mounts[1]));
	f = freeze_guarded(s, &g);
	assert_int_equal(freeze_thaw(f, &e), 0);
	freeze_free(f);
	guardian_stop(&g);
}

static void a_guardian_that_is_stopped_does_not_hold_us_up(void **state)
{
	struct guardian g = { 0 };
	struct stage *s = *state;
	struct freeze *f = freeze_guarded(s, &g);
	struct err e = { 0 };

	assert_int_equal(freeze_thaw(f, &e), 0);
	assert_int_equal(kill(guardian_pid(), SIGSTOP), 0);
	alarm(20);
	freeze_free(f);
	alarm(0);
	f = freeze_guarded(s, &g);
	assert_int_equal(freeze_thaw(f, &e), 0);
	freeze_free(f);
	guardian_stop(&g);
}

static unsigned long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "VmLck:", 6) == 0)
			kib = strtoul(line + 6, NULL, 10);
	}
	fclose(f);
	return kib;
}

static void pages_stay_locked_while_another_freeze_stands(void **state)
{
	struct stage *s = *state;
	struct freeze *low = NULL, *up = NULL;
	struct err e = { 0 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	print_message("the sanitizers make mlockall() do nothing\n");
	skip();
#endif
	assert_int_equal(freeze_new(&s->mounts[1], 1, 10000, &up, &e), 0);
	assert_int_equal(freeze_new(&s->mounts[0], 1, 10000, &low, &e), 0);
	assert_int_equal(freeze_sync(low, &e), 0);
	assert_int_equal(freeze_begin(up, &e), 0);
	assert_int_equal(freeze_begin(low, &e), 0);
	assert_true(locked_kib() > 0);
	assert_int_equal(freeze_thaw(low, &e), 0);
	assert_true(locked_kib() > 0);
	assert_int_equal(freeze_thaw(up, &e), 0);
	assert_int_equal(locked_kib(), 0);
	freeze_free(low);
	freeze_free(up);
}

static void who_freezes_goes_before_others_until_the_thaw(void **state)
{
	struct stage *s = *state;
	struct freeze *f = freeze_made(s, 10000);
	struct err e = { 0 };

	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	assert_int_equal(freeze_begin(f, &e), 0);
	assert_int_equal(sched_getscheduler(0), SCHED_FIFO);
	assert_int_equal(freeze_thaw(f, &e), 0);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	freeze_free(f);
}

/* Where it is built: two folders above the unit tests. */
static int guardian_built(struct err *e)
{
	char own[PATH_MAX], path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own));

	assert_true(n > 0);
	while (own[n - 1] != '/')
		n--;
	snprintf(path, sizeof(path), "%.*s../../" GUARDIAN_NAME, (int)n, own);
	return guardian_open(path, e);
}

int main(void)
{
	struct err e = { 0 };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_stand_still_until_they_are_thawed),
		cmocka_unit_test(the_guardian_thaws_at_the_deadline_and_once_only),
		cmocka_unit_test(somebody_elses_thaw_is_noticed),
		cmocka_unit_test(somebody_elses_freeze_stays),
		cmocka_unit_test(a_freeze_that_waits_for_another_ends_at_the_deadline),
		cmocka_unit_test(a_covered_mount_is_refused),
		cmocka_unit_test(the_guardian_of_a_killed_process_thaws_and_ends),
		cmocka_unit_test(it_ends_too_when_the_deadline_had_passed),
		cmocka_unit_test(without_its_guardian_nothing_stays_frozen),
		cmocka_unit_test(one_guardian_serves_many_freezes_and_holds_nothing_between),
		cmocka_unit_test(a_guardian_that_was_killed_between_freezes_is_replaced),
		cmocka_unit_test(a_guardian_that_is_stopped_does_not_hold_us_up),
		cmocka_unit_test(pages_stay_locked_while_another_freeze_stands),
		cmocka_unit_test(who_freezes_goes_before_others_until_the_thaw),
	};

	if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0) {
		puts("skipped: needs root and loop devices");
		return 77;
	}
	if (guardian_built(&e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	return cmocka_run_group_tests(tests, stage_setup, stage_teardown);
}
