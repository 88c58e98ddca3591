#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Something reaches the disk's blocks by a way that no tracker sees: here a write to the file below a loop device. The
# sample finds it, the capture fails and says where, and the next one compares everything. Who cannot say what the
# parent had gets the chunk as it is now.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require jq filefrag
increment_ready
tracker_ready

# so small that every chunk is in the sample
head -c 8M /dev/urandom >"$scratch/raw"
truncate -s 12M "$scratch/raw"
loop_make "$scratch/raw"
disk=$loop
agent_start
whole parent "$disk"
[[ $(manifest "$scratch/parent.zst" .track) == 2:* ]] || skip "this kernel cannot track"
behind() { head -c "$2" /dev/urandom | dd of="$scratch/raw" bs=4096 seek="$1" conv=nocreat,notrunc status=none; }
missed() {
	expect_fail 1 "failed: " tool parent capture "$@"
	jq -r .error "$scratch/expect.out"
}

# where the parent had zeros there may have been nothing in use
behind 2560 4096
increment zeros "$disk" parent tracked
[[ $(increment_manifest zeros '.sample | tojson') == '{"checked":48,"different":1}' ]] ||
	fail "$(increment_manifest zeros '.sample | tojson')"
[[ $(increment_told zeros .chunks) == 0 ]] || fail "asked for a chunk without data"
cmp "$scratch/raw" "$scratch/zeros.raw" >&2 || fail "not the disk"

behind 333 100
increment blind "$disk" parent tracked --no-content
[[ $(increment_manifest blind '.sample | tojson') == '{"checked":48,"different":2}' ]] ||
	fail "$(increment_manifest blind '.sample | tojson')"
[[ $(increment_told blind .chunks) == 1 ]] || fail "did not ask"
cmp "$scratch/raw" "$scratch/blind.raw" >&2 || fail "not the disk"

said=$(missed "$disk" "$scratch/parent.zst" "$scratch/failed.delta")
say "$said"
[[ $said == *"$disk"*"byte $((333 * 4096)),"*"missed a write"*"capture again"* ]] || fail "does not say what and where"
increment again "$disk" parent compared
[[ $(increment_told again .reason) == *"began anew"* ]] || fail "$(increment_told again .reason)"
cmp "$scratch/raw" "$scratch/again.raw" >&2 || fail "not the disk"

# tracked since the next whole one; a write that is seen hides nothing, and is no alarm
whole second "$disk"
behind 444 100
head -c 4096 /dev/urandom | dd of="$disk" bs=4096 seek=445 oflag=direct conv=nocreat,notrunc status=none
increment seen "$disk" second tracked
cmp "$scratch/raw" "$scratch/seen.raw" >&2 || fail "not the disk"

# a mounted one, in a file
truncate -s 64M "$scratch/ext4"
loop_make "$scratch/ext4"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
head -c 4M /dev/urandom >"$scratch/mnt/file"
sync
whole live "$loop" --strategy precopy
increment fine "$loop" live tracked --strategy precopy
block=$(filefrag -b4096 -e "$scratch/mnt/file" | awk '$1 == "0:" { sub(/\.\.$/, "", $4); print $4 }')
head -c 10 /dev/urandom | dd of="$scratch/ext4" bs=4096 seek=$((block + 100)) conv=nocreat,notrunc status=none
said=$(missed --strategy precopy "$loop" "$scratch/live.zst" "$scratch/failed.delta")
[[ $said == *"byte $(((block + 100) * 4096)),"* ]] || fail "does not say where: $said"
touch "$scratch/mnt/still-alive"
