#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While the file systems stand still the disk is copied behind the agent's back. The image has every block of
# that copy, or zeros where no file lies; all that although everything was written to until then, in every way.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require sfdisk partx fio jq python3 busctl mkfs.xfs fstrim xfs_repair

# what is free is not zero, or leaving it out would go unnoticed
head -c 900M /dev/urandom >"$scratch/source"
# partitions that agree neither with chunks nor with what the tracker tells apart
disk_make "$scratch/source" 900M <<'TABLE'
label: dos
start=63, size=716999
start=727777, size=900001
TABLE
source=$loop
types=(ext4 xfs)
mkfs.ext4 -q -F -E nodiscard "${source}p1"
mkfs.xfs -q -f -K "${source}p2"
mount_at "${source}p1" "$scratch/ext4" -o discard
mount_at "${source}p2" "$scratch/xfs"

# write_everyhow DIR: past the page cache, through it, and through a mapping
write_everyhow() {
	fio --directory="$1" --size=12M --bs=4k --time_based --runtime=250 --output=/dev/null \
		--name=direct --rw=randwrite --direct=1 --rate=6m \
		--name=buffered --rw=randwrite --ioengine=psync --fsync=200 --rate=4m \
		--name=mapped --rw=randwrite --ioengine=mmap --rate=4m &>/dev/null &
	cleanup _stop_quietly $!
	churn "$1" &>/dev/null &
	cleanup _stop_quietly $!
}

for t in "${types[@]}"; do
	some_files "$scratch/$t/static" 40
	write_everyhow "$scratch/$t"
done
sleep 2

agent_start AMBRO_TEST_PAUSE=frozen:4000
ambroctl capture "$source" -o "$scratch/image.zst" --max-freeze 20000 &>"$scratch/client.log" &
client=$!

phase() { job_property 1 Phase 2>/dev/null | tr -dc 'a-z-'; }
# stands_still: a change of both file systems does not come back
stands_still() {
	local t
	kill -0 "$client" 2>/dev/null || return 0
	[[ $(phase) == sfreeze ]] || return 1
	probes=()
	for t in "${types[@]}"; do
		touch "$scratch/$t/probe" 2>/dev/null &
		probes+=($!)
	done
	sleep 0.5
	still_there
}
still_there() {
	local p
	for p in "${probes[@]}"; do kill -0 "$p" 2>/dev/null || return 1; done
}

# an attempt that came to nothing (a discard was still under way) is followed by another
copied_at=0
while kill -0 "$client" 2>/dev/null; do
	wait_for 120 stands_still || fail "it never froze"
	kill -0 "$client" 2>/dev/null || break
	began=${EPOCHREALTIME/./}000
	cp --sparse=always "$scratch/source" "$scratch/copy"
	still_there && copied_at=$began
	wait "${probes[@]}" || :
	wait_for 20 eval '! stands_still'
done
wait "$client" || fail "capture: $(cat "$scratch/client.log")"
for p in $(jobs -p | grep -vx "$agent_pid"); do kill "$p" 2>/dev/null || :; done

instant=$(manifest "$scratch/image.zst" .instant_ns)
((copied_at > instant && copied_at - instant < 4000000000)) ||
	fail "copied at $copied_at, which is not the image's instant $instant"
say "capture: $(manifest "$scratch/image.zst" '.capture | tojson')"
[[ $(manifest "$scratch/image.zst" .guarantee) == filesystem-consistent ]] || fail "wrong guarantee"

reader "$scratch/image.zst" "$scratch/restored"
python3 - "$scratch/copy" "$scratch/restored" <<'PYTHON' >&2 || fail "the image is not the instant's disk"
import sys
BLOCK = 4096
zeros = bytes(BLOCK)
free = wrong = total = at = 0
with open(sys.argv[1], 'rb') as copy, open(sys.argv[2], 'rb') as image:
    while True:
        a, b = copy.read(1 << 20), image.read(1 << 20)
        if len(a) != len(b):
            sys.exit(f'different lengths at {at}')
        if not a:
            break
        # partitions begin at odd sectors, and blocks are counted from there: compare sectors
        for i in range(0, len(a), 512):
            x, y = a[i:i + 512], b[i:i + 512]
            total += 1
            if x == y:
                continue
            if y == zeros[:len(y)]:
                free += 1
            else:
                wrong += 1
                if wrong < 20:
                    print(f'sector {(at + i) // 512} differs')
        at += len(a)
print(f'{total} sectors, {free} of them left out, {wrong} wrong')
sys.exit(wrong != 0)
PYTHON

for t in "${types[@]}"; do umount_at "$scratch/$t"; done
for what in copy restored; do
	loop_make "$scratch/$what"
	partitions_add "$loop"
	for i in 0 1; do
		t=${types[i]}
		mount_at "${loop}p$((i + 1))" "$scratch/$what.$t"
		sums "$scratch/$what.$t" >"$scratch/$what.$t.sums"
		umount_at "$scratch/$what.$t"
		fs_check "$t" "${loop}p$((i + 1))"
	done
done
for t in "${types[@]}"; do
	say "$t: $(wc -l <"$scratch/copy.$t.sums") files"
	cmp "$scratch/copy.$t.sums" "$scratch/restored.$t.sums" || fail "$t: files differ from the copy's"
done
