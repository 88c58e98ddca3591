#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Garbage, wrong sizes and every call at once from four threads: nothing breaks, and all of it can be taken
# down afterwards.
# vm-disks: 8M 8M 8M
# vm-timeout: 500
# vm-modules: dm-snapshot
# vm-expect-dmesg: I/O error
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[2]}" <<<'label: gpt
size=4M'
kmod_load
dm_make nothing <<<"0 $(sectors_of "${disks[0]}") zero"
for seed in 1 2 3; do
	took "fuzz $seed" timeout 120 "$tool_ambro" fuzz "${1:-1000}" "$seed" "${disks[0]}" "${disks[1]}" "$(part "${disks[2]}" 1)" \
		/dev/mapper/nothing || fail "fuzz: $?"
	while found=$(ambro_oneshot query); do
		say "$found"
		n=$(grep -o 'id=[0-9]*' <<<"$found" | head -n 1)
		ambro_oneshot off "${n#id=}" -- disarm "${n#id=}" -- detach "${n#id=}" >/dev/null || fail "take down $n"
	done
done
dm_remove nothing
check "rmmod" rmmod ambro
check "and a disk still works" random_onto "${disks[0]}" 1
