#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A mounted disk: the increment reads what was written since the parent, and what is written while it reads. At rest it is
# the disk, byte for byte; under load it is one instant, with all that was acknowledged before it. Also by a new agent.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/increment.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require sfdisk partx fio jq python3 e2fsck
increment_ready
tracker_ready

disk_make "$scratch/source" 700M <<'TABLE'
label: gpt
size=600M
size=60M
TABLE
disk=$loop
fs_make ext4 "${disk}p1"
mount_at "${disk}p1" "$scratch/mnt"
some_files "$scratch/mnt/static" 250
some_files "$scratch/mnt/gone" 30
head -c 20M /dev/urandom >"${disk}p2"
sync
sums "$scratch/mnt/static" >"$scratch/static.sums"

agent_start
whole parent "$disk" --strategy precopy
[[ $(manifest "$scratch/parent.zst" .track) == 2:* ]] || fail "no token: $(manifest "$scratch/parent.zst" .track)"

# changed while nobody captures, and by then no agent runs
rm -r "$scratch/mnt/gone"
head -c 5M /dev/urandom >"$scratch/mnt/new"
sync
agent_leave
head -c 1M /dev/urandom >>"$scratch/mnt/new"
truncate -s 1M "$scratch/mnt/$(cd "$scratch/mnt" && find static -type f -size +100k | head -n1)"
(cd "$scratch/mnt" && find static -type f -print0 | sort -z | xargs -0r sha256sum) >"$scratch/static.sums"
agent_start
increment quiet "$disk" parent tracked --strategy precopy
read_first=$(manifest "$scratch/parent.zst" .capture.read_bytes) read_now=$(increment_told quiet .read)
say "read $((read_now >> 20)) MiB of $((read_first >> 20))"
((read_now * 4 < read_first)) || fail "too much was read"
umount_at "$scratch/mnt"
e2fsck -fn "${disk}p1" >&2 || fail "the disk itself"
# umount has written a few blocks since: the files tell whether it was the same instant
loop_make "$scratch/quiet.raw"
partitions_add "$loop"
fs_check ext4 "${loop}p1"
mount_at "${loop}p1" "$scratch/restored" -o ro
(cd "$scratch/restored" && sha256sum --quiet -c "$scratch/static.sums") >&2 || fail "files differ"
mount_at "${disk}p1" "$scratch/mnt" -o ro
cmp "$scratch/mnt/new" "$scratch/restored/new" >&2 || fail "the new file differs"
[[ ! -e $scratch/restored/gone ]] || fail "what was removed is there"
umount_at "$scratch/restored"
umount_at "$scratch/mnt"

# at rest now, offline: the token of a live image serves there too
increment rest "$disk" parent tracked --strategy offline
sync
same_where_used "$scratch/source" "$scratch/rest.raw" "${disk}p1"

# under load, three times in a row, always against the same parent
mount_at "${disk}p1" "$scratch/mnt"
mkdir -p "$scratch/mnt/acked"
witness_start busy "$scratch/mnt/acked" --rate 60 --size 8192
noise_start "$scratch/mnt" 4
churn "$scratch/mnt" no-trim 0.2 &>/dev/null &
cleanup _stop_quietly $!
sleep 1
for n in 1 2 3; do
	increment "load$n" "$disk" parent tracked --strategy precopy
	cp "$scratch/busy.ack" "$scratch/busy$n.ack"
	increment_manifest "load$n" '{instant_ns, capture, sample} | tojson' >&2
done
witness_stop busy
while read -r pid; do kill "$pid" 2>/dev/null || :; done < <(jobs -p | grep -vx "$agent_pid")
for n in 1 2 3; do
	loop_make "$scratch/load$n.raw"
	partitions_add "$loop"
	fs_check ext4 "${loop}p1"
	mount_at "${loop}p1" "$scratch/load$n" -o ro
	(cd "$scratch/load$n" && sha256sum --quiet -c "$scratch/static.sums") >&2 || fail "load$n: files differ"
	instant=$(increment_manifest "load$n" .instant_ns)
	tool ackwriter check "$scratch/load$n/acked" "$scratch/busy.ack" --instant "$instant" >"$scratch/check" ||
		fail "load$n: $(cat "$scratch/check")"
	say "load$n: $(cat "$scratch/check")"
	jq -e '.acked >= 10' "$scratch/check" >/dev/null || fail "the writer did too little to prove anything"
	umount_at "$scratch/load$n"
done
