/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usedblocks_check - is a file system in a state in which partclone's map of it is right? For usedblocks.c.
 * Each returns NULL when it is, or why not in words.
 */
#pragma once

#include <stdint.h>

const char *usedblocks_check_vfat(const char *path);
const char *usedblocks_check_btrfs(const char *path);
const char *usedblocks_check_f2fs(const char *path, uint64_t length);
/*
 * Where the last two clusters of an exFAT begin, in bytes: partclone forgets them (measured with 0.3.23: it
 * numbers clusters from 2 and stops as if it had begun with 0).
 */
const char *usedblocks_exfat_tail(const char *path, uint64_t length, uint64_t *ret_start);
