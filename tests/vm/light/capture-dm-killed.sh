#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The agent is killed at every step of a capture by dm: the volume's writers go on, all that was acknowledged is
# there, and the next agent takes down what is left.
# vm-disks: 96M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

volume_make vol "${disks[0]}"
dir=$scratch/vol
fs_make ext4 /dev/mapper/vol
mount_at /dev/mapper/vol "$dir"
# shellcheck disable=SC2317 # by its name
has_its_table() {
	check_equal "killed at $1: the volume has its table" "$table" "$(dmsetup table vol)"
}
killed_everywhere dm /dev/mapper/vol "$dir" has_its_table
