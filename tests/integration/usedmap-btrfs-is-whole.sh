#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the map of a btrfs leaves out is in no file and in no second copy of its metadata.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

require mkfs.btrfs partclone.btrfs
fs_known btrfs || skip "this kernel has no btrfs"
usedmap_oracle btrfs btrfs-dev-extents partclone.btrfs mkfs.btrfs -q -f
usedmap_oracle btrfs btrfs-dev-extents partclone.btrfs mkfs.btrfs -q -f -m single -n 4096
