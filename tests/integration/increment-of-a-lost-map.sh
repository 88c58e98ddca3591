#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The parent knew which blocks of a partition were free, and left them out; now nobody can say what is on it, and all of
# it counts. Few blocks were written for that, but all are read.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require sfdisk partx wipefs
increment_ready
tracker_ready

# what is free is not zero
head -c 160M /dev/urandom >"$scratch/source"
disk_make "$scratch/source" 160M <<'TABLE'
label: gpt
size=100M
size=40M
TABLE
mkfs.ext4 -q -F -E nodiscard "${loop}p1"
mkfs.ext4 -q -F -E nodiscard "${loop}p2"
agent_start
whole parent "$loop"
[[ $(manifest "$scratch/parent.zst" .track) == 2:* ]] || skip "this kernel cannot track"
[[ $(manifest "$scratch/parent.zst" '.regions[1].content') == used ]] || fail "the map is not known"

wipefs -qa "${loop}p1"
sync
increment lost "$loop" parent tracked
[[ $(increment_manifest lost '.regions[1].content') == all ]] || fail "the map is still known"
[[ $(increment_manifest lost '.regions[2].content') == used ]] || fail "the other map is not known"
start=$(cat "/sys/class/block/${loop##*/}p1/start")
cmp -n $((100 << 20)) -i $((start * 512)) "$scratch/source" "$scratch/lost.raw" >&2 || fail "not all of it was read"
read=$(increment_told lost .read)
((read >= 100 << 20 && read < 128 << 20)) || fail "$read bytes were read"

# and the other way round: all was known, a file system came
whole all "$loop"
mkfs.ext4 -q -F -E nodiscard -U random "${loop}p1"
sync
increment made "$loop" all tracked
dd if="$scratch/made.raw" of="$scratch/p1.raw" bs=512 skip="$start" count=$((100 << 11)) status=none
e2fsck -fn "$scratch/p1.raw" >&2 || fail "e2fsck"
