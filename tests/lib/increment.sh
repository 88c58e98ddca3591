# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
#
# increment.sh - what the tests of increments share; sourced after functions.sh.

increment_ready() {
	[[ -x $O/tests/lib/tool-parent ]] || skip "$O/tests/lib/tool-parent is not built"
	require jq python3 e2fsck dumpe2fs
}

# whole NAME DISK [options of tool-parent capture…]: an image of it, $scratch/NAME.zst, fit to be a parent.
whole() {
	tool parent capture --chunk-shift 18 "${@:3}" "$2" - "$scratch/$1.zst" >"$scratch/$1.json" ||
		fail "$1: $(cat "$scratch/$1.json")"
}
# increment NAME DISK PARENT KIND [options…]: $scratch/NAME.delta against $scratch/PARENT.zst, and the disk of both,
# $scratch/NAME.raw. KIND is what it has to be.
increment() {
	local got
	tool parent capture "${@:5}" "$2" "$scratch/$3.zst" "$scratch/$1.delta" >"$scratch/$1.json" ||
		fail "$1: $(cat "$scratch/$1.json")"
	say "$1: $(cat "$scratch/$1.json")"
	got=$(increment_told "$1" .increment)
	[[ $got == "$4" ]] || fail "$1 is $got, not $4: $(increment_told "$1" .reason)"
	[[ $4 == full ]] || increment_resolve "$1" "$3"
}
increment_resolve() {
	tool parent resolve "$scratch/$2.zst" "$scratch/$1.delta" "$scratch/$1.raw" >"$scratch/$1.counts"
	say "$1: $(cat "$scratch/$1.counts")"
}
increment_told() { jq -r "$2" "$scratch/$1.json"; }

# increment_manifest NAME JQ_FILTER: of a delta stream, which no reader opens.
increment_manifest() {
	python3 - "$scratch/$1.delta" <<'PYTHON' | jq -r "$2"
import struct, sys
data = open(sys.argv[1], 'rb').read()
end = len(data)
frames = struct.unpack('<I', data[end - 9:end - 5])[0]
trailer = end - 17 - 8 * frames - 160
offset, length = struct.unpack('<QQ', data[trailer + 40 + 16:trailer + 40 + 32])
sys.stdout.write(data[offset + 40:offset + length].decode())
PYTHON
}

# same_where_used DISK IMAGE EXT4: IMAGE has every byte of DISK but those that the file system on the device EXT4, a
# partition of it or DISK itself, says are free.
same_where_used() {
	local start=0 sys
	sys=/sys/class/block/$(basename "$3")
	[[ ! -e $sys/partition ]] || start=$(cat "$sys/start")
	dumpe2fs "$3" 2>/dev/null | sed -n 's/^  Free blocks: //p' >"$scratch/free"
	python3 - "$1" "$2" "$scratch/free" "$start" \
		"$(dumpe2fs -h "$3" 2>/dev/null | sed -n 's/^Block size: *//p')" <<'PYTHON' >&2 || fail "$2 is not $1"
import sys
disk, image = open(sys.argv[1], 'rb'), open(sys.argv[2], 'rb')
start, bs = int(sys.argv[4]) * 512, int(sys.argv[5])
free = set()
for part in open(sys.argv[3]).read().replace('\n', ',').split(','):
    if part.strip():
        a, _, b = part.strip().partition('-')
        free.update(range(int(a), int(b or a) + 1))
at = wrong = skipped = 0
while True:
    a, b = disk.read(1 << 20), image.read(1 << 20)
    if len(a) != len(b):
        sys.exit(f'different lengths at {at}')
    if not a:
        break
    if a != b:
        for i in range(0, len(a), 512):
            if a[i:i + 512] == b[i:i + 512]:
                continue
            if at + i >= start and (at + i - start) // bs in free:
                skipped += 1
                continue
            wrong += 1
            if wrong < 20:
                print(f'byte {at + i} differs')
    at += len(a)
print(f'{at} bytes, {skipped} sectors of free blocks differ, {wrong} others')
sys.exit(wrong != 0)
PYTHON
}

# agent_leave: the agent ends, tracking goes on (agent_stop ends that too).
agent_leave() {
	kill "$agent_pid"
	wait "$agent_pid" || :
	agent_pid=
}
