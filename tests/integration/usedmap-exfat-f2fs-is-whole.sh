#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An exFAT and an f2fs that were left clean have a map, and their checkers find the copy in order.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
require_root
# shellcheck source=tests/lib/usedmap.sh
. "$top/tests/lib/usedmap.sh"

require mkfs.exfat fsck.exfat partclone.exfat mkfs.f2fs sload.f2fs fsck.f2fs partclone.f2fs
truncate -s 200M "$scratch/exfat.img" "$scratch/f2fs.img"
mkfs.exfat "$scratch/exfat.img" >/dev/null
usedmap_copy "$scratch/exfat.img" "$scratch/copy" offline
map_is 0 partclone.exfat
map_saves 0 50
fsck.exfat -n "$scratch/copy" >"$scratch/out" || fail "$(cat "$scratch/out")"

mkfs.f2fs -q "$scratch/f2fs.img" >/dev/null
some_files "$scratch/from" 30
sload.f2fs -f "$scratch/from" "$scratch/f2fs.img" >/dev/null || fail "sload.f2fs"
usedmap_copy "$scratch/f2fs.img" "$scratch/copy" offline
map_is 0 partclone.f2fs
map_saves 0 30
fsck.f2fs --dry-run "$scratch/copy" >"$scratch/out" || fail "$(tail "$scratch/out")"
