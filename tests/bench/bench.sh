#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bench.sh - we and the peers on the same disks: an offline ext4 of a real system with stale free space, a
# large sparse ext4 with little in it, a disk of zeros, and one of noise. Rounds are interleaved, every other one in
# reverse order; medians are printed as Markdown. Everything is in memory, so this measures programs, not disks.
#
# BENCH_ROUNDS (5), BENCH_DISKS ("system sparse zeros noise"), BENCH_FILES_MIB (of the system: 1150),
# BENCH_MIB (size of zeros and noise: 1024), BENCH_WHO (all of them; ambrotype must be among them).
# shellcheck disable=SC2016 # commands are text here, run later by sh -c
. "$(dirname "$0")/../lib/functions.sh"

require_root
require zstd jq partclone.ext4 partclone.restore qemu-img python3 mkfs.ext4 fsarchiver borg restic casync
rounds=${BENCH_ROUNDS:-5}
read -ra disks <<<"${BENCH_DISKS:-system sparse zeros noise}"
files=${BENCH_FILES_MIB:-1150}
small=${BENCH_MIB:-1024}
results=$scratch/results
[[ $scratch == /dev/shm/* ]] || say "note: not in memory; disk speeds will be in the figures"

# ---- the disks ---------------------------------------------------------------------------------------

# files of this system in an ext4 more than twice as large, and much free space that once held something
make_system() {
	truncate -s $((files * 8 / 3))M "$1"
	mkfs.ext4 -q -F "$1"
	mount_at "$1" "$scratch/mnt" -o loop
	fill "$scratch/mnt/stale" $((files * 3 / 4)) 6
	fill "$scratch/mnt/system" "$files" 0
	sync
	rm -r "$scratch/mnt/stale"
	umount_at "$scratch/mnt"
}
# fill DIR MIB SKIP: this system's files in order, leaving out every SKIPth
fill() {
	[[ -s $scratch/list ]] ||
		find /usr /etc /opt -xdev -type f -size -64M -printf '%s %p\n' 2>/dev/null | sort -k2 >"$scratch/list"
	mkdir -p "$1"
	awk -v most=$(($2 << 20)) -v skip="$3" '
		skip && NR % skip == 0 { next }
		{ n += $1; if (n > most) exit; sub(/^[0-9]+ /, ""); print }' "$scratch/list" |
		tar -cf - --no-recursion -T - 2>/dev/null | tar -xf - -C "$1"
}
# 3 GiB with 128 MiB of files
make_sparse() {
	truncate -s 3G "$1"
	mkfs.ext4 -q -F "$1"
	mount_at "$1" "$scratch/mnt" -o loop
	fill "$scratch/mnt/system" 128 0
	umount_at "$scratch/mnt"
}
make_zeros() { truncate -s "${small}M" "$1"; }
make_noise() { head -c "${small}M" /dev/urandom >"$1"; }

# ---- the contestants: capture $DEV -> $OUT, restore $OUT -> $BACK; run by sh -c ---------------------------

read -ra contestants <<<"${BENCH_WHO:-ambrotype ambrotype-live zstd partclone partclone-a0 qcow2 fsarchiver borg restic casync}"
declare -A title prepare capture restore
title=(
	[ambrotype]='ambrotype'
	[ambrotype-live]='ambrotype, the disk mounted and in use'
	[zstd]='`zstd -1 -T2` of the raw device'
	[partclone]='`partclone.ext4 -c` \| `zstd -1 -T2`'
	[partclone-a0]='the same at its best: `-a 0` (no checksums), `-f 0` (no two-second sleeps)'
	[qcow2]='`qemu-img convert -c`, zstd'
	[fsarchiver]='`fsarchiver savefs -Z 1 -j 2` (files, not blocks)'
	[borg]='`borg create -C zstd,1`, fixed 4 MiB chunks, no encryption'
	[restic]='`restic backup --stdin`'
	[casync]='`casync make`, zstd'
)
prepare=(
	[borg]='borg init -e none "$OUT"'
	[restic]='restic init -r "$OUT"'
	[casync]='mkdir "$OUT"'
)
capture=(
	[ambrotype]='"$CTL" capture "$DEV" -o "$OUT"'
	[ambrotype-live]='"$CTL" capture "$DEV" -o "$OUT"'
	[zstd]='zstd -1 -T2 -q -f "$DEV" -o "$OUT"'
	[partclone]='partclone.ext4 -c -s "$DEV" -L "$LOG" -o - | zstd -1 -T2 -q -f -o "$OUT"'
	[partclone-a0]='partclone.ext4 -c -a 0 -f 0 -s "$DEV" -L "$LOG" -o - | zstd -1 -T2 -q -f -o "$OUT"'
	[qcow2]='qemu-img convert -c -O qcow2 -o compression_type=zstd -f raw "$DEV" "$OUT"'
	[fsarchiver]='fsarchiver savefs -Z 1 -j 2 "$OUT.fsa" "$DEV" && mv "$OUT.fsa" "$OUT"'
	[borg]='borg create -C zstd,1 --chunker-params fixed,4194304 "$OUT::a" - <"$DEV"'
	[restic]='restic backup -q -r "$OUT" --stdin --stdin-filename disk <"$DEV"'
	[casync]='casync make --compression=zstd --store="$OUT" "$OUT/disk.caibx" "$DEV"'
)
restore=(
	[ambrotype]='"$CTL" restore "$OUT" "$BACK" --yes'
	[ambrotype-live]='"$CTL" restore "$OUT" "$BACK" --yes'
	[zstd]='zstd -dq -f --sparse "$OUT" -o "$BACK"'
	[partclone]='zstd -dcq "$OUT" | partclone.restore -C -s - -L "$LOG" -O "$BACK"'
	[partclone-a0]='zstd -dcq "$OUT" | partclone.restore -C -f 0 -s - -L "$LOG" -O "$BACK"'
	[qcow2]='qemu-img convert -f qcow2 -O raw "$OUT" "$BACK"'
	[fsarchiver]='fsarchiver restfs -j 2 "$OUT" id=0,dest="$BACK_DEV"'
	[borg]='cd "$(dirname "$BACK")" && borg extract --sparse "$OUT::a" && mv stdin "$BACK"'
	[restic]='restic dump -q -r "$OUT" latest disk >"$BACK"'
	[casync]='casync extract --store="$OUT" "$OUT/disk.caibx" "$BACK"'
)
export BORG_BASE_DIR=$scratch/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR=$scratch/restic
# takes_part CONTESTANT DISK
takes_part() {
	case $1 in
	ambrotype-live | partclone* | fsarchiver) [[ $2 == system || $2 == sparse ]] ;;
	esac
}

# measure DISK CONTESTANT capture|restore COMMAND: appends "disk contestant what wall cpu size" to $results.
# CPU of children counts, and that of the agent, which does ours.
measure() {
	python3 - "$agent_pid" "$results" "$1" "$2" "$3" "$4" <<'PYTHON'
import os, resource, subprocess, sys, time
agent, results, *row, command = sys.argv[1:]

def agent_cpu():
    f = open(f'/proc/{agent}/stat').read().rsplit(')', 1)[1].split()
    return sum(int(x) for x in f[11:15]) / os.sysconf('SC_CLK_TCK')

agent_before, began = agent_cpu(), time.monotonic()
done = subprocess.run(['bash', '-o', 'pipefail', '-c', command], capture_output=True)
wall = time.monotonic() - began
if done.returncode:
    sys.exit(f'{command}: {done.stderr.decode(errors="replace")[-500:]}')
time.sleep(0.05)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = u.ru_utime + u.ru_stime + agent_cpu() - agent_before
out = os.environ['OUT']
size = sum(os.stat(os.path.join(d, f)).st_size for d, _, names in os.walk(out) for f in names) \
    if os.path.isdir(out) else os.stat(out).st_size
print(*row, f'{wall:.3f} {cpu:.3f} {size}', file=open(results, 'a'))
PYTHON
}

# correct DISK CONTESTANT: what came back is the disk; for those who leave free space out, where it is in use
correct() {
	case $2 in
	ambrotype* | partclone* | fsarchiver)
		if takes_part partclone "$1"; then
			e2fsck -fn "$BACK" >/dev/null 2>&1 && mount_at "$BACK" "$scratch/back" -o ro,loop &&
				{ [[ -s $scratch/system.sums ]] || sums_of_source; } &&
				sums "$scratch/back" | cmp - "$scratch/system.sums" && umount_at "$scratch/back"
		else
			cmp "$DEV" "$BACK"
		fi
		;;
	*) cmp "$DEV" "$BACK" ;;
	esac || fail "$2: what came back of '$1' is not what was there"
}
sums_of_source() {
	mount_at "$DEV" "$scratch/mnt" -o ro,noload
	sums "$scratch/mnt" >"$scratch/system.sums"
	umount_at "$scratch/mnt"
}

# one DISK CONTESTANT ROUND
one() {
	takes_part "$2" "$1" || return 0
	export OUT=$scratch/out BACK=$scratch/back.raw LOG=$scratch/partclone.log
	[[ $2 != partclone* && $2 != fsarchiver ]] || truncate -s "$(blockdev --getsize64 "$DEV")" "$BACK"
	# it makes the file system anew, on a device
	[[ $2 != fsarchiver ]] || loop_make "$BACK"
	export BACK_DEV=$loop
	[[ ! ${prepare[$2]:-} ]] || bash -c "${prepare[$2]}" &>/dev/null || fail "$2: ${prepare[$2]}"
	[[ $2 != ambrotype-live ]] || mount_at "$DEV" "$scratch/live"
	measure "$1" "$2" capture "${capture[$2]}"
	[[ $2 != ambrotype-live ]] || umount_at "$scratch/live"
	measure "$1" "$2" restore "${restore[$2]}"
	[[ $2 != fsarchiver ]] || losetup -d "$BACK_DEV"
	(($3 > 1)) || correct "$1" "$2"
	rm -rf "$OUT" "$BACK" "$scratch/borg" "$scratch/restic"
}

# ---- the rounds ----------------------------------------------------------------------------------------

# used_bytes DISK: of $DEV; of a file system what it uses
used_bytes() {
	takes_part partclone "$1" || {
		blockdev --getsize64 "$DEV"
		return
	}
	dumpe2fs -h "$DEV" 2>/dev/null | awk -F ': *' '
		/^Block count/ { all = $2 } /^Free blocks/ { free = $2 } /^Block size/ { size = $2 }
		END { printf "%d\n", (all - free) * size }'
}

declare -A used
export CTL=$O/ambroctl DEV
agent_start
for d in "${disks[@]}"; do
	"make_$d" "$scratch/$d"
	loop_make "$scratch/$d"
	DEV=$loop
	used[$d]=$(used_bytes "$d")
	for ((round = 1; round <= rounds; round++)); do
		say "$d: round $round of $rounds"
		for ((i = 0; i < ${#contestants[@]}; i++)); do
			one "$d" "${contestants[$((round % 2 ? i : ${#contestants[@]} - 1 - i))]}" "$round"
		done
	done
	rm -f "$scratch/system.sums"
done

# ---- the table -------------------------------------------------------------------------------------------

printf '%s, %d CPUs (%s), Linux %s, %d rounds, medians\n' "$(date -u +%F)" "$(nproc)" \
	"$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)" "$rounds"
printf '%s; ' "$(zstd --version | grep -o 'v[0-9.]*' | sed 's/^/zstd /')" \
	"$(partclone.ext4 -v 2>&1 | head -n 1)" "$(qemu-img --version | head -n 1 | cut -d' ' -f 1-3)" \
	"$(fsarchiver --version 2>&1 | head -n 1)" "$(borg --version)" "$(restic version | cut -d' ' -f 1-2)" \
	"$(casync --version | head -n 1)"
echo
for d in "${disks[@]}"; do
	printf '\n**%s**: %d MiB, %d MiB of them in use%s\n\n' "$d" $(($(stat -c %s "$scratch/$d") >> 20)) \
		$((${used[$d]} >> 20)) "$([[ $d != system ]] || echo '; the free space is stale files')"
	echo '| | capture, s | / ours | CPU s per GB | stored, MiB | / ours | restore, s | / ours | CPU s per GB |'
	echo '|---|---|---|---|---|---|---|---|---|'
	for c in "${contestants[@]}"; do
		takes_part "$c" "$d" || continue
		python3 - "$results" "$d" "$c" "${title[$c]}" "${used[$d]}" <<'PYTHON'
import statistics, sys
results, disk, who, title, used = sys.argv[1:]
rows = [line.split() for line in open(results)]

def median(who, what, column):
    return statistics.median(float(r[column]) for r in rows if r[:3] == [disk, who, what])

cells = [title]
for what, column, unit in (('capture', 3, 1), ('capture', 4, 0), ('capture', 5, 2**20), ('restore', 3, 1), ('restore', 4, 0)):
    value = median(who, what, column)
    if not unit:
        cells.append(f'{value / int(used) * 1e9:.2f}')
    else:
        cells += [f'{value / unit:.2f}', f'{value / median("ambrotype", what, column):.2f}']
print('|', ' | '.join(cells), '|')
PYTHON
	done
done
