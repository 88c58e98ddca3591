#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A limited capture takes as long as its limit says, ends at once when it is cancelled, and is the same image. Reads have the idle I/O priority, but not while file systems stand still, and not with --full-speed.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root
require jq

head -c 24M /dev/urandom >"$scratch/random"
agent_start

# took_at_least MS OPTION…: of a file of 24 MiB that cannot be compressed.
took_at_least() {
	ambroctl capture "$scratch/random" -o "$scratch/image.zst" --force --json "${@:2}" >"$scratch/result"
	say "${*:2}: $(jq .duration_ms "$scratch/result") ms"
	jq -e ".duration_ms >= $1" "$scratch/result" >/dev/null || fail "${*:2}: faster than that"
	zstd -dqc "$scratch/image.zst" | cmp - "$scratch/random" || fail "${*:2}: not the same"
}
require zstd
# less the 0.1 s that it may be ahead, and the first read or frame of at most 1 MiB
took_at_least 2600 --limit-read 8M
took_at_least 2600 --limit-write 8M
took_at_least 3800 --limit-read 16M --limit-write 6M
took_at_least 0 --full-speed

# ---- a wait of minutes does not outlive a cancellation ----
for limit in --limit-read --limit-write; do
	capture_start "$scratch/random" "$scratch/slow.zst" "$limit" 64K
	sleep 2
	began=${EPOCHREALTIME/./}
	kill -INT "$client"
	capture_ends
	took=$((${EPOCHREALTIME/./} - began))
	((client_status == 130 && took < 5000000)) || fail "$limit: exit code $client_status after $took us"
done
expect_fail 2 "--limit-read" "$O/ambroctl" capture "$scratch/random" -o "$scratch/no.zst" --limit-read 1K
expect_fail 1 "limit_write 65535 is less than 65536" agent_call call CaptureToFile 'sa{sv}s' "$scratch/random" 1 limit_write t 65535 "$scratch/no.zst"

# ---- priorities, as the kernel's block layer sees them; somebody writes, so there is something to read while frozen ----
require fio
tracing=/sys/kernel/tracing
[[ -d $tracing/instances ]] || tracing=/sys/kernel/debug/tracing
trace=$tracing/instances/ambro-test-$$
trace_end() { rmdir "$trace"; }
mkdir "$trace" 2>/dev/null || skip "requests cannot be traced here: their priorities were not looked at"
cleanup trace_end
grep -q ioprio "$trace/events/block/block_rq_issue/format" || skip "this kernel does not trace priorities"
truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
head -c 24M /dev/urandom >"$scratch/mnt/file"
noise_start "$scratch/mnt"
# reads OPTION…: the priorities of the agent's reads in that capture, in order, each once as long as it lasts, in $scratch/reads.
reads() {
	echo "dev == $(((0x$(stat -c %t "$source") << 20) + 0x$(stat -c %T "$source")))" >"$trace/events/block/block_rq_issue/filter"
	echo >"$trace/trace"
	echo 1 >"$trace/events/block/block_rq_issue/enable"
	ambroctl capture "$source" -o "$scratch/image.zst" --force --quiet --strategy precopy "$@"
	echo 0 >"$trace/events/block/block_rq_issue/enable"
	sed -n 's/.* RS\{0,1\} [0-9]* () .* \([a-z]*\),[0-9],[0-9] .*/\1/p' "$trace/trace" | uniq -c >"$scratch/reads"
	say "$*: $(awk '{ printf "%s %s, ", $1, $2 }' "$scratch/reads")"
}
# reads_are_idle_until_frozen CLASS: which they are then of.
reads_are_idle_until_frozen() {
	reads
	# a server's own programs that read before or after are not idle
	finds -w idle <"$scratch/reads" || fail "no read was idle"
	awk -v then="$1" '$2 == "idle" { idle = 1 } idle && $2 == then { found = 1 } END { exit !found }' "$scratch/reads" ||
		fail "reads were idle also while all stood still"
	reads --full-speed
	! finds -w idle <"$scratch/reads" || fail "--full-speed is idle"
}
# io_uring: the class of the thread that freezes (agent/pace.h); other threads have theirs
reads_are_idle_until_frozen rt
agent_stop
deny=$O/tests/lib/tool-deny
[[ -x $deny ]] || skip "$deny is not built: reads by threads were not looked at"
agent_start "$deny" io_uring
reads_are_idle_until_frozen be
