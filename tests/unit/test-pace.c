/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/pace.h"

/* A small XFS in a loop device. */
static char stage[64] = "/dev/shm/test-pace.XXXXXX";

static int run(const char *commands)
{
	char script[512];

	snprintf(script, sizeof(script), "cd %s && export PATH=$PATH:/usr/sbin:/sbin && set -e\n%s",
		 stage, commands);
	return system(script); /* NOLINT(cert-env33-c): a test's own words */
}

static int stage_setup(void **state)
{
	return mkdtemp(stage) ? run("truncate -s 300M x.img; mkfs.xfs -q x.img; mkdir x; "
				    "mount -o loop x.img x")
			      : -1;
}

static int stage_teardown(void **state)
{
	run("umount x; rm -rf --one-file-system x x.img");
	rmdir(stage);
	return 0;
}

static pid_t pusher(void)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/x", stage);
	assert_int_equal(stat(path, &st), 0);
	return pace_find_pusher(st.st_dev);
}

static void the_thread_of_an_xfs_is_found(void **state)
{
	char path[64], name[64] = "";
	FILE *f;

	assert_true(pusher() > 0);
	snprintf(path, sizeof(path), "/proc/%d/comm", pusher());
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(name, sizeof(name), f));
	fclose(f);
	assert_non_null(strstr(name, "xfsaild/loop"));
}

static void other_devices_have_none(void **state)
{
	struct stat st;

	assert_int_equal(stat("/dev/shm", &st), 0);
	assert_int_equal(pace_find_pusher(st.st_dev), 0);
}

static void assert_same_place(pid_t pid, const struct pace_place *was)
{
	cpu_set_t now;

	assert_int_equal(sched_getscheduler(pid), was->policy);
	assert_int_equal(sched_getaffinity(pid, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&now, &was->processors));
}

static struct pace_place place_of(pid_t pid)
{
	struct pace_place p = { .policy = sched_getscheduler(pid) };

	assert_int_equal(sched_getaffinity(pid, sizeof(p.processors), &p.processors), 0);
	return p;
}

static void both_are_on_one_processor_until_they_part(void **state)
{
	pid_t pid = pusher();
	struct pace_place theirs = place_of(pid), ours = place_of(0), was;
	struct pace_pusher slot = { 0 };
	cpu_set_t a, b;

	assert_true(pace_hurry(&was));
	assert_true(pace_join(&slot, pid));
	assert_int_equal(sched_getscheduler(pid), SCHED_FIFO);
	assert_int_equal(sched_getaffinity(pid, sizeof(a), &a), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(b), &b), 0);
	assert_int_equal(CPU_COUNT(&a), 1);
	assert_true(CPU_EQUAL(&a, &b));
	pace_part(&slot);
	assert_same_place(pid, &theirs);
	pace_relax(&was);
	assert_same_place(0, &ours);
}

/* What one notes that joins when another has joined would not be where the thread belongs. */
static void who_comes_second_does_without(void **state)
{
	pid_t pid = pusher();
	struct pace_place theirs = place_of(pid), was;
	struct pace_pusher slot = { 0 }, second = { 0 };

	assert_true(pace_hurry(&was));
	assert_true(pace_join(&slot, pid));
	assert_false(pace_join(&second, pid));
	pace_part(&slot);
	assert_same_place(pid, &theirs);
	assert_true(pace_join(&second, pid));
	pace_part(&second);
	pace_relax(&was);
	assert_same_place(pid, &theirs);
}

/* As the guardian does when the agent died between join and part. */
static void a_moved_thread_is_put_back_without_us(void **state)
{
	pid_t pid = pusher();
	struct pace_place theirs = place_of(pid), was;
	struct pace_pusher slot = { 0 };

	assert_true(pace_hurry(&was));
	assert_true(pace_join(&slot, pid));
	pace_put_back(&slot);
	assert_same_place(pid, &theirs);
	pace_part(&slot);
	assert_same_place(pid, &theirs);
	pace_relax(&was);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_thread_of_an_xfs_is_found),
		cmocka_unit_test(other_devices_have_none),
		cmocka_unit_test(both_are_on_one_processor_until_they_part),
		cmocka_unit_test(who_comes_second_does_without),
		cmocka_unit_test(a_moved_thread_is_put_back_without_us),
	};

	if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0) {
		puts("skipped: needs root and loop devices");
		return 77;
	}
	return cmocka_run_group_tests(tests, stage_setup, stage_teardown);
}
