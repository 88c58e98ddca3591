#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk at rest, whose writes were tracked since the parent: only what was written is read, whether through a file
# system, past it, or by a discard; also by an agent that was not there when it happened. Of a partition, too.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require sfdisk partx python3 blkdiscard
increment_ready
tracker_ready

disk_make "$scratch/source" 400M <<'TABLE'
label: gpt
first-lba: 34
start=2047, size=250M
size=100M
TABLE
disk=$loop
fs_make ext4 "${disk}p1"
mount_at "${disk}p1" "$scratch/mnt"
some_files "$scratch/mnt/kept" 120
some_files "$scratch/mnt/gone" 20
umount_at "$scratch/mnt"
head -c 60M /dev/urandom >"${disk}p2"
sync

agent_start
whole parent "$disk"
whole part "${disk}p1"
[[ $(manifest "$scratch/parent.zst" .increment) == full ]] || fail "not told"
[[ $(manifest "$scratch/parent.zst" .track) == 2:* ]] || skip "this kernel cannot track"

increment idle "$disk" parent tracked
(($(increment_told idle .read) <= 64 << 18)) || fail "much was read of a disk that nobody wrote to"
same_where_used "$scratch/source" "$scratch/idle.raw" "${disk}p1"
[[ $(increment_manifest idle .sample.checked) == 64 ]] || fail "no sample"
[[ $(increment_manifest idle .sample.different) == 0 ]] || fail "differences where there are none"

change() {
	mount_at "${disk}p1" "$scratch/mnt"
	rm -rf "$scratch/mnt/gone"
	head -c 3M /dev/urandom >"$scratch/mnt/$1"
	umount_at "$scratch/mnt"
	# behind the cache of the partition, in front of it, and of the whole disk; that one still unwritten when we begin
	head -c 70000 /dev/urandom | dd of="${disk}p2" bs=70000 seek=77 conv=nocreat,notrunc,fsync status=none
	head -c 65536 /dev/urandom | dd of="${disk}p2" bs=65536 seek=300 oflag=direct conv=nocreat,notrunc status=none
	blkdiscard -o 20M -l 1M "${disk}p2"
	exec {held}<>"$disk"
	head -c 40000 /dev/urandom | dd of="$disk" bs=1M seek=300 conv=nocreat,notrunc status=none
}
change one
increment one "$disk" parent tracked
exec {held}>&-
sync
same_where_used "$scratch/source" "$scratch/one.raw" "${disk}p1"
(($(increment_told one .read) < 60 << 20)) || fail "too much was read"

# by another agent, against the same parent
agent_leave
change two
agent_start
increment two "$disk" parent tracked
exec {held}>&-
sync
same_where_used "$scratch/source" "$scratch/two.raw" "${disk}p1"

# the partition alone: the tracker speaks of the whole disk
increment partition "${disk}p1" part tracked
dd if="${disk}p1" of="$scratch/p1.truth" bs=1M status=none
loop_make "$scratch/p1.truth" -r
same_where_used "$scratch/p1.truth" "$scratch/partition.raw" "$loop"
e2fsck -fn "$scratch/partition.raw" >&2 || fail "e2fsck"

# what speaks against it: each is compared instead
track=$(manifest "$scratch/parent.zst" .track)
IFS=: read -r v boot id era nonce shift size offset <<<"$track"
declare -A bad=(
	["the machine was started"]=$v:00${boot:2}:$id:$era:$nonce:$shift:$size:$offset
	["tracking began anew"]=$v:$boot:${id:0:30}zz:$era:$nonce:$shift:$size:$offset
	["cannot be"]=$v:$boot:$id:4000000000000:$nonce:$shift:$size:$offset
	["another place"]=$v:$boot:$id:$era:$nonce:$shift:$size:$((offset + 512))
	["does not understand"]=1:$boot:$id:$era:$shift:$size:$offset
	["gone back in time"]=$v:$boot:$id:4000000000:$nonce:$shift:$size:$offset
	["or the parent is older"]=$v:$boot:$id:$era:${nonce:2}00:$shift:$size:$offset
)
for why in "${!bad[@]}"; do
	increment bad "$disk" parent compared --track "${bad[$why]}"
	[[ $(increment_told bad .reason) == *"$why"* ]] || fail "$(increment_told bad .reason), not $why"
done
for token in "" : "1:" "$v:$boot:$id:" "$v:$boot:$id:0:$nonce:$shift:$size:$offset" \
	"$v:$boot:$id:-1:$nonce:$shift:$size:$offset" "$track:" "$v:$boot:$id: $era:$nonce:$shift:$size:$offset" \
	"$v:$boot:$id:$era" "$v:$boot:$id:$era:" "$v:$boot:$id:$era:${nonce:1}:$shift:$size:$offset" \
	"$v:$boot:$id:$era:${nonce^^}a:$shift:$size:$offset" "$(printf 'x%.0s' {1..3000})"; do
	increment bad "$disk" parent compared --track "$token"
done

# a tracker in doubt is replaced by a new one, which knows nothing of the parent
blkdiscard -z -o 0 -l 4096 "${disk}p2"
tracker remove "$disk"
increment anew "$disk" parent compared
[[ $(increment_told anew .reason) == *"began anew"* ]] || fail "$(increment_told anew .reason)"
same_where_used "$scratch/source" "$scratch/anew.raw" "${disk}p1"
