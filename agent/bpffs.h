/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bpffs - directories of pins in /sys/fs/bpf/ambro.
 *
 * A pin keeps a BPF object alive without any process. Needs CAP_SYS_ADMIN for the mount, CAP_BPF
 * for the rest.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/err.h"

#define BPFFS_MOUNT    "/sys/fs/bpf"
#define BPFFS_ROOT     BPFFS_MOUNT "/ambro"
#define BPFFS_PATH_MAX 128

bool bpffs_mounted(void);
/*
 * Open BPFFS_ROOT, mounting a bpffs and making the directory where they are missing, and lock it
 * against every other process that uses the same file system (and every other descriptor of this
 * one). Blocks while another holds it. @ret_fd is the lock: closing it unlocks.
 */
int bpffs_lock(int *ret_fd, struct err *e);
/*
 * Remove a directory of pins, named below the root, and what is in it. 0 also when there is none.
 */
int bpffs_remove(int root_fd, const char *name, struct err *e);
