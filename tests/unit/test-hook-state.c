/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/hook_state.h"
#include "lib/base/io.h"

/* A process that cannot be: no number is that large. */
#define GONE  "@0999999999\0"
#define BEGIN "d/etc/hooks\0t30000\0j7\0s/dev/vda\0m/\n/srv\0"

/* A state of a memory file that holds @text, of @len bytes. */
static struct hook_state state_of(const char *text, size_t len)
{
	struct hook_state s = { .fd = memfd_create("state", MFD_CLOEXEC), .path = "state" };

	assert_true(s.fd >= 0);
	assert_int_equal(io_write_all(s.fd, text, len), 0);
	return s;
}
#define STATE_OF(text) state_of(text, sizeof(text) - 1)

/* Those that are frozen, as "a b c". */
static void assert_frozen(struct hook_state s, const char *expected)
{
	struct hook_notes n;
	char got[256] = "";
	struct err e;

	assert_int_equal(hook_state_read(&s, &n, &e), 0);
	for (size_t i = 0; i < n.count; i++) {
		size_t used = strlen(got);

		snprintf(got + used, sizeof(got) - used, "%s%s", i ? " " : "", n.frozen[i].name);
	}
	assert_string_equal(got, expected);
	hook_notes_done(&n);
	hook_state_close(&s);
}

static void what_was_written_is_read(void **state)
{
	struct hook_state s = STATE_OF(BEGIN "+10-db\0");
	struct hook_notes n;
	struct err e;

	(void)state;
	assert_int_equal(hook_state_read(&s, &n, &e), 0);
	assert_string_equal(n.set.dir, "/etc/hooks");
	assert_int_equal(n.set.timeout_ms, 30000);
	assert_int_equal(n.set.job, 7);
	assert_string_equal(n.set.source, "/dev/vda");
	assert_string_equal(n.set.mounts, "/\n/srv");
	assert_int_equal(n.count, 1);
	hook_notes_done(&n);
	hook_state_close(&s);
}

static void what_is_thawed_is_not_frozen(void **state)
{
	(void)state;
	assert_frozen(STATE_OF(""), "");
	assert_frozen(STATE_OF(BEGIN), "");
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0+c\0"), "a b c");
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0+c\0-c\0"), "a b");
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0+c\0-c\0-b\0-a\0"), "");
	/* one that was frozen again */
	assert_frozen(STATE_OF(BEGIN "+a\0-a\0+a\0"), "a");
	assert_frozen(STATE_OF(BEGIN "+a\0" GONE "-a\0=a\0+a\0"), "a");
	/* a thaw that nobody asked for */
	assert_frozen(STATE_OF(BEGIN "-a\0+b\0"), "b");
}

/* Killed together with its keeper it may not have come to do anything. */
static void a_thaw_that_nobody_saw_end_counts_while_it_runs(void **state)
{
	char text[64];
	pid_t pid = fork();
	int n = snprintf(text, sizeof(text), "+a%c+b%c@%010d%c-b%c", 0, 0, (int)pid, 0, 0);

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	/* another's number, which that has got since */
	assert_frozen(state_of(text, (size_t)n), "a b");
	assert_int_equal(setpgid(pid, pid), 0);
	assert_frozen(state_of(text, (size_t)n), "a");
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	assert_frozen(state_of(text, (size_t)n), "a b");
	waitpid(pid, NULL, 0);
	assert_frozen(state_of(text, (size_t)n), "a b");
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0+c\0" GONE "-c\0"), "a b c");
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0+c\0" GONE "-c\0=c\0" GONE "-b\0"), "a b");
	/* and begun again */
	assert_frozen(STATE_OF(BEGIN "+a\0+b\0" GONE "-b\0" GONE "-b\0=b\0"), "a");
	/* an end of what has not begun */
	assert_frozen(STATE_OF(BEGIN "+a\0=a\0"), "a");
}

/* The child died while it wrote: it never became the hook. */
static void a_torn_note_does_not_count(void **state)
{
	(void)state;
	assert_frozen(state_of(BEGIN "+a\0+b", sizeof(BEGIN "+a\0+b") - 1), "a");
	assert_frozen(state_of(BEGIN "+a\0-a", sizeof(BEGIN "+a\0-a") - 1), "a");
}

static void a_note_is_as_it_is_read(void **state)
{
	size_t len;
	char *note = hook_state_note(HOOK_FREEZE, "name", &len);

	(void)state;
	assert_int_equal(len, 6);
	assert_memory_equal(note, "+name", 6);
	free(note);
	note = hook_state_note(HOOK_THAW, "name", &len);
	assert_int_equal(len, 12 + 6);
	hook_state_sign(note, 4711);
	assert_memory_equal(note, "@0000004711\0-name", 12 + 6);
	free(note);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(what_is_thawed_is_not_frozen),
		cmocka_unit_test(a_thaw_that_nobody_saw_end_counts_while_it_runs),
		cmocka_unit_test(a_torn_note_does_not_count),
		cmocka_unit_test(a_note_is_as_it_is_read),
	};

	return cmocka_run_group_tests_name("hook-state", tests, NULL, NULL);
}
