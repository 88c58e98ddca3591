#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# On and off in a loop, while direct I/O that the disk has to split is verified: no bio is lost, none is
# done twice, and off always returns with nothing in flight.
# vm-disks: 40M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=16M
size=16M'
echo 16 >"/sys/block/${disks[0]##*/}/queue/max_sectors_kb"
kmod_load
owner_start
cleanup stack_clean
stack_attach "${disks[0]}"
stack_prepare "${disks[1]}"
stack_on
engines=("" libaio io_uring)
for i in 1 2; do
	fio_start "verify$i" --filename="$(part "${disks[0]}" $i)" --size=16M --rw=randwrite --bs=64k --direct=1 \
		--iodepth=4 --ioengine="${engines[i]}" --verify=crc32c --verify_backlog=32 \
		--verify_fatal=1 --time_based --runtime=25
done
toggles=0
end=$((SECONDS + 25))
while ((SECONDS < end)); do
	ambro off "$id" || fail "off: $reply"
	[[ $(query in_flight) == 0 ]] || fail "in flight after off: $reply"
	sleep 0.0$((RANDOM % 9 + 1))
	ambro on "$id" || fail "on: $reply"
	toggles=$((toggles + 1))
	sleep 0.0$((RANDOM % 9 + 1))
done
fio_wait verify1
fio_wait verify2
say "$toggles toggles, $(query redirected) bios redirected"
((toggles > 8)) || fail "only $toggles toggles"
(($(query redirected) > 100)) || fail "hardly any bios redirected"
check_equal "errors" 0 "$(query errors)"
check_equal "missed" 0 "$(query missed)"
stack_off
stack_remove
stack_detach
