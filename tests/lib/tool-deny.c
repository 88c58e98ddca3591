/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tool-deny - run a program that the kernel denies some system calls, as a policy would: EPERM.
 *
 *	tool-deny io_uring|bpf COMMAND [ARGUMENT]…
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "lib/base/cleanup.h"

static const struct {
	const char *name;
	unsigned int number;
} calls[] = {
	{ "io_uring", SYS_io_uring_setup },
	{ "bpf", SYS_bpf },
};

static int deny(unsigned int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 2 && i < ARRAY_SIZE(calls); i++) {
		if (strcmp(argv[1], calls[i].name) != 0)
			continue;
		if (deny(calls[i].number) < 0) {
			perror("tool-deny: seccomp");
			return 77;
		}
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		return 127;
	}
	fputs("usage: tool-deny io_uring|bpf COMMAND [ARGUMENT]…\n", stderr);
	return 2;
}
