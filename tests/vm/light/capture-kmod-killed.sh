#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed at every step of a capture through the module: the disk's writers go on, all that was
# acknowledged is there, and the next agent takes down what is left.
# vm-disks: 96M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
disk=${disks[0]} dir=$scratch/dir
fs_make ext4 "$disk"
mount_at "$disk" "$dir"
# shellcheck disable=SC2317 # by its name
was_killed() { ok "killed at $1"; }
killed_everywhere kmod "$disk" "$dir" was_killed
