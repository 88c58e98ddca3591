#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# soak.sh - many rounds of one live capture each, of a disk that is written to in every way. `make soak`; not part
# of `make check`. What a round does follows from its seed: soak.sh SEED repeats one.
#
# A round is right when
#  1. every place of the disk that changed lies in what the tracker names;
#  2. the image has every sector of a copy that was made behind the agent's back while all stood still, or zeros
#     where nothing lies; mounted, both hold the same files;
#  3. the restored file system passes its checker;
#  4. all that was acknowledged before the instant is there and intact, and nothing is newer.
#
# SOAK_ROUNDS (20), SOAK_SEED (of the first round; the time). Ends with 1 if a round was wrong.
# shellcheck disable=SC2154 # what the functions leave behind
. "$(dirname "$0")/lib/functions.sh"
. "$top/tests/lib/tracker.sh"
require_root
require fio jq fstrim python3 busctl partx sfdisk
tracker_ready

# ---- all rounds ----------------------------------------------------------------------------------------

# sum FIELD: over the reports of all rounds.
sum() { awk -v f="$1" '{ for (i = 1; i < NF; i++) if ($i == f) n += $(i + 1) } END { print n + 0 }' "$scratch/rounds"; }

if (($# == 0)); then
	rounds=${SOAK_ROUNDS:-20} first=${SOAK_SEED:-$((EPOCHSECONDS % 1000000))} wrong=0 skipped=0
	: >"$scratch/rounds"
	for ((seed = first; seed < first + rounds; seed++)); do
		began=$SECONDS status=0
		"$0" "$seed" >"$scratch/round.out" 2>"$scratch/round.err" || status=$?
		printf '%s  (%d s)\n' "$(tail -n1 "$scratch/round.out")" $((SECONDS - began))
		case $status in
		0) tail -n1 "$scratch/round.out" >>"$scratch/rounds" ;;
		77) skipped=$((skipped + 1)) ;;
		*)
			wrong=$((wrong + 1))
			printf 'WRONG: seed %d\n' "$seed"
			tail -n 60 "$scratch/round.err"
			;;
		esac
	done
	printf '%d rounds, %d wrong, %d skipped: %d changed granules, %d of them missed by the tracker (begun anew meanwhile in %d rounds, which do not count here); %d sectors compared, %d left out as free, %d wrong; %d acknowledged files, all there\n' \
		"$rounds" "$wrong" "$skipped" "$(sum changed)" "$(sum missed)" "$(sum anew)" "$(sum sectors)" "$(sum free)" \
		"$(sum differ)" "$(sum acknowledged)"
	((wrong == 0))
	exit
fi

# ---- one round -----------------------------------------------------------------------------------------

set -E
trap 'say "line $LINENO: $BASH_COMMAND"' ERR
seed=$1
RANDOM=$seed
# one_of WORD…: leaves it in $chosen.
one_of() {
	local n=$((RANDOM % $#))
	chosen=${*:n+1:1}
}
one_of ext4 xfs ext4 xfs btrfs && type=$chosen
one_of loop loop partition zram && on=$chosen
one_of churn churn still && churns=$chosen
one_of trim trim no-trim && trims=$chosen
one_of discard no-discard && discards=$chosen
one_of ambroctl reader && back=$chosen
one_of 1 3 7 && kinds=$((chosen | RANDOM % 8))
pause=6000 mib=420
note="seed $seed: $type on $on, $churns $trims $discards, fio $kinds, by $back"
printf '%s\n' "$note"
fs_known "$type" || skip "$note: no $type"

head -c "${mib}M" /dev/urandom >"$scratch/before"
case $on in
zram)
	zram_make "${mib}M" || skip "$note: no zram"
	disk=$zram device=$zram
	dd if="$scratch/before" of="$disk" bs=1M oflag=direct status=none
	;;
loop)
	cp "$scratch/before" "$scratch/source"
	loop_make "$scratch/source"
	disk=$loop device=$loop
	;;
partition)
	cp "$scratch/before" "$scratch/source"
	disk_make "$scratch/source" "${mib}M" <<<$'label: dos\nstart=63, size=819201'
	disk=$loop device=${loop}p1
	cp "$scratch/source" "$scratch/before"
	;;
esac
tracker_new "$disk"
era=$(tracker era "$disk")
# a tracker that is begun anew (in doubt, or ended by somebody) knows nothing of before
pins() { stat -c %i "/sys/fs/bpf/ambro/$((0x$(stat -c %t "$disk"))):$((0x$(stat -c %T "$disk")))/control" 2>/dev/null; }
pinned=$(pins)
case $type in
ext4) mkfs.ext4 -q -F -E nodiscard "$device" ;;
xfs) mkfs.xfs -q -f -K "$device" ;;
btrfs) mkfs.btrfs -q -f -K "$device" >/dev/null ;;
esac
live=$scratch/live
options=defaults
[[ $discards == discard ]] && options=discard
[[ $type == btrfs && $discards == discard ]] && options=discard=sync
mount_at "$device" "$live" -o "$options"
some_files "$live/static" 30

jobs=()
((kinds & 1)) && jobs+=(--name=direct --rw=randwrite --ioengine=libaio --direct=1 --iodepth=4 --rate=6m)
((kinds & 2)) && jobs+=(--name=buffered --rw=randwrite --ioengine=psync --fsync=100 --rate=4m)
((kinds & 4)) && jobs+=(--name=mapped --rw=randwrite --ioengine=mmap --rate=4m)
fio --directory="$live" --size=10M --bs=4k --randseed="$seed" --allrandrepeat=1 --time_based --runtime=600 \
	--output=/dev/null "${jobs[@]}" &>/dev/null &
writers=($!)
if [[ $churns == churn ]]; then
	churn "$live" "$trims" 0.02 &>/dev/null &
	writers+=($!)
fi
for p in "${writers[@]}"; do cleanup _stop_quietly "$p"; done
witness_start witness "$live" --rate 100
sleep 1.$((RANDOM % 10))

agent_start "AMBRO_TEST_PAUSE=frozen:$pause"
ambroctl capture "$disk" -o "$scratch/image.zst" --max-freeze 30000 &>"$scratch/client.log" &
client=$!

phase() { job_property 1 Phase 2>/dev/null | tr -dc 'a-z-'; }
running() { kill -0 "$client" 2>/dev/null; }
# frozen: it stands still for the last reading; or the capture is over
frozen() {
	running || return 0
	[[ $(phase) == sfreeze ]] && stands_still "$live"
}
copy_disk() {
	if [[ $on == zram ]]; then
		dd if="$disk" of="$scratch/copy" bs=1M iflag=direct status=none
	else
		cp "$scratch/source" "$scratch/copy"
	fi
}
# an attempt that came to nothing is followed by another
copied_at=0
while running; do
	wait_for 200 frozen || fail "it never froze"
	running || break
	began=${EPOCHREALTIME/./}000
	copy_disk
	kill -0 "$probe" 2>/dev/null && copied_at=$began
	wait "$probe" || :
	wait_for 30 eval '! frozen'
done
wait "$client" || fail "capture: $(cat "$scratch/client.log")"
for p in "${writers[@]}"; do _stop_quietly "$p" || :; done
witness_stop witness

image=$scratch/image.zst
instant=$(manifest "$image" .instant_ns)
((copied_at > instant && copied_at - instant < pause * 1000000)) ||
	fail "copied at $copied_at, which is not the image's instant $instant"
[[ $(manifest "$image" .guarantee) == filesystem-consistent ]] || fail "guarantee: $(manifest "$image" .guarantee)"
say "capture: $(manifest "$image" '.capture | tojson')"

# 1: before and copy are those of the tracker's era and of the instant
if [[ $(pins) == "$pinned" ]]; then
	exact=$(tracker exact "$disk" "$era" "$scratch/before" "$scratch/copy") || fail "the tracker missed a change: $exact"
else
	exact="tracked anew 1"
fi
say "tracker: $exact"
[[ $(tracker doubt "$disk") == none ]] || fail "doubt: $(tracker doubt "$disk")"

umount_at "$live"
agent_stop
if [[ $on == zram ]]; then zram_free "${disk#/dev/zram}"; else _loop_free "$disk" || :; fi
[[ $type != btrfs ]] || btrfs device scan --forget &>/dev/null || :
rm -f "$scratch/before" "$scratch/source"

# 2
case $back in
ambroctl) ambroctl restore "$image" "$scratch/restored" --yes &>"$scratch/restore.log" || fail "restore: $(cat "$scratch/restore.log")" ;;
reader) reader "$image" "$scratch/restored" ;;
esac
compared=$(
	python3 - "$scratch/copy" "$scratch/restored" <<'PYTHON'
import sys
zeros = bytes(512)
free = wrong = total = 0
with open(sys.argv[1], 'rb') as copy, open(sys.argv[2], 'rb') as image:
    while True:
        a, b = copy.read(1 << 16), image.read(1 << 16)
        if len(a) != len(b):
            sys.exit('different lengths')
        if not a:
            break
        total += len(a) // 512
        if a == b:
            continue
        for i in range(0, len(a), 512):
            x, y = a[i:i + 512], b[i:i + 512]
            if x != y:
                free += y == zeros
                wrong += y != zeros
print(f'sectors {total} free {free} differ {wrong}')
PYTHON
)
say "$compared"
[[ $compared == *" differ 0" ]] || fail "the image is not the instant's disk: $compared"

for what in copy restored; do
	loop_make "$scratch/$what"
	part=$loop
	if [[ $on == partition ]]; then
		partitions_add "$loop"
		part=${loop}p1
	fi
	mount_at "$part" "$scratch/$what.mnt"
	sums "$scratch/$what.mnt" >"$scratch/$what.sums"
	# 4
	[[ $what == copy ]] || witness_check witness "$scratch/$what.mnt" "$image"
	umount_at "$scratch/$what.mnt"
	# 3
	fs_check "$type" "$part"
	_loop_free "$loop" || :
	[[ $type != btrfs ]] || btrfs device scan --forget &>/dev/null || :
done
cmp "$scratch/copy.sums" "$scratch/restored.sums" || fail "files differ from the copy's"
printf '%s: %s %s files %d acknowledged %d\n' "$note" "$exact" "$compared" "$(wc -l <"$scratch/restored.sums")" \
	"$(jq .acked "$scratch/witness.check")"
