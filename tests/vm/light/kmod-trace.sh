#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The function tracer and a kprobe sit on the symbol that we hook, come and go: no bio is missed.
# vm-disks: 24M 32M
# vm-modules: dm-snapshot
# The emulator may go on running the breakpoint that stood there while another processor changed it (seen once: a processor that
# never leaves the first byte).
# vm-threads: single
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

tracing=/sys/kernel/tracing
[[ -d $tracing/events ]] || tracing=/sys/kernel/debug/tracing
kmod_load
owner_start
cleanup stack_clean
random_onto "${disks[0]}"
stack_attach "${disks[0]}"
stack_prepare "${disks[1]}"
stack_on
fio_start load --filename="${disks[0]}" --size=20M --rw=randwrite --bs=4k --direct=1 --iodepth=8 --ioengine=libaio \
	--verify=crc32c --verify_backlog=64 --time_based --runtime=12
for i in 1 2 3; do
	echo submit_bio_noacct >"$tracing/set_ftrace_filter"
	echo function >"$tracing/current_tracer"
	echo "p:ambro_test submit_bio_noacct" >"$tracing/kprobe_events"
	echo 1 >"$tracing/events/kprobes/ambro_test/enable"
	sleep 1
	echo 0 >"$tracing/events/kprobes/ambro_test/enable"
	: >"$tracing/kprobe_events"
	sleep 0.5
	echo nop >"$tracing/current_tracer"
	: >"$tracing/set_ftrace_filter"
	sleep 0.5
done
fio_wait load
snapshot_is_truth "with tracers"
(($(query redirected) > 100)) || fail "no load"
check_equal "missed" 0 "$(query missed)"
stack_off
stack_remove
stack_detach
