#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the maps of ext2 and ext4 leave out is in no file, with every kind of block and cluster.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

usedmap_oracle ext4 ext-bitmaps ext-bitmaps mkfs.ext4 -q -F -b 4096
usedmap_oracle ext4 ext-bitmaps ext-bitmaps mkfs.ext4 -q -F -b 1024
usedmap_oracle ext4 ext-bitmaps ext-bitmaps mkfs.ext4 -q -F -O bigalloc -C 16384
usedmap_oracle ext2 ext-bitmaps ext-bitmaps mkfs.ext2 -q -F
