#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the map of an xfs leaves out is in no file, mounted or not.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

require mkfs.xfs
fs_known xfs || skip "this kernel has no xfs"
usedmap_oracle xfs xfs-getfsmap xfs-free-space mkfs.xfs -q -f
usedmap_oracle xfs xfs-getfsmap xfs-free-space mkfs.xfs -q -f -b size=1024 -m reflink=0
