#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One flipped bit in what says which blocks are used, and it is not believed: the file system is read whole.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require mkfs.ext4 mkfs.xfs dumpe2fs python3
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

disk=$scratch/disk.img

# flip BYTE: one bit of it, and back when called again
flip() {
	python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(-1, 1); f.write(bytes([b ^ 4]))' \
		"$disk" "$1"
}
# doubted REASON BYTE…: each of them alone
doubted() {
	local byte
	for byte in "${@:2}"; do
		flip "$byte"
		usedmap_copy "$disk" "$scratch/copy" offline
		map_whole 0 "$1"
		flip "$byte"
	done
	usedmap_copy "$disk" "$scratch/copy" offline
	map_saves 0 30
}

truncate -s 320M "$disk"
mkfs.xfs -q -f "$disk"
# of the first group: AGF, header and first record of the tree by block number
doubted damaged $((512 + 52)) $((4096 + 7)) $((4096 + 59)) $((4096 + 200))

rm "$disk"
truncate -s 320M "$disk"
mkfs.ext4 -q -F -b 4096 -g 8192 "$disk"
bitmap=$(dumpe2fs "$disk" 2>/dev/null | sed -n 's/^  Block bitmap at \([0-9]*\).*/\1/p' | head -n1)
# the bitmap of group 0, and the descriptors of groups 0 and 1
doubted damaged $((bitmap * 4096 + 100)) $((4096 + 4)) $((4096 + 64 + 18))
