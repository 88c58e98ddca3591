#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What must not be attached, armed or taken away is refused, each with its errno; nothing is left behind.
# vm-disks: 16M 16M 16M,ro
# vm-modules: dm-snapshot sd_mod
# vm-expect-dmesg: DIX
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=8M'
part=$(part "${disks[0]}" 1)
kmod_load
owner_start
cleanup stack_clean

ambro version || fail "version: $reply"
check_equal "uapi" 1 "$(field uapi)"
check_equal "mode of the control device" 600 "$(stat -c %a /dev/ambro-control)"
check_fails "rmmod while the control device is open" rmmod ambro
refused EINVAL attach "$part"
refused ENXIO attach 240:17
refused EROFS attach "${disks[2]}"
refused ENOENT query
refused ENOENT on 0
refused ENOENT detach 63
refused ENOENT off 4294967295

if modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=64 2>/dev/null && [[ -b /dev/nullb0 ]]; then
	refused EOPNOTSUPP attach /dev/nullb0
	modprobe -r null_blk
fi
if modprobe scsi_debug dif=1 dix=1 dev_size_mb=8 2>/dev/null; then
	sd_debug() { compgen -G '/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*' >/dev/null; }
	wait_for 60 sd_debug || fail "no scsi_debug disk"
	for d in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
		refused EOPNOTSUPP attach "/dev/${d##*/}"
	done
	modprobe -r scsi_debug
fi

echo 0 >/proc/sys/kernel/ftrace_enabled
refused EIO attach "${disks[0]}"
echo 1 >/proc/sys/kernel/ftrace_enabled

stack_attach "${disks[0]}"
refused EBUSY attach "${disks[0]}"
refused EINVAL attach "$part"
refused EOPNOTSUPP attach "$back"
refused EBUSY on "$id"
switch_ftrace_off() { echo 0 >/proc/sys/kernel/ftrace_enabled; }
check_fails "ftrace_enabled=0 while attached" switch_ftrace_off
refused EINVAL arm "$id" "${disks[1]}"
refused EINVAL arm "$id" "$back"
dm_make small <<<"0 8 zero"
check "arm" ambro arm "$id" /dev/mapper/small
refused EBUSY arm "$id" /dev/mapper/small
refused EINVAL on "$id"
refused EBUSY detach "$id"
check_fails "dmsetup remove of what is armed" dmsetup remove small
check "disarm" ambro disarm "$id"
check "disarm again" ambro disarm "$id"
check "off while idle" ambro off "$id"

# the owner's is the owner's
check_equal "another sees the owner" owned=1 "$(ambro_oneshot query | grep -o 'owned=.')"
check_equal "itself" 2 "$(query owned)"
for c in "arm $id /dev/mapper/small" "on $id" "off $id" "disarm $id" "detach $id"; do
	# shellcheck disable=SC2086 # words
	check_equal "another's $c" "error EPERM" "$(ambro_oneshot $c)"
done
unprivileged() { setpriv --reuid 65534 --clear-groups --inh-caps=-all "$tool_ambro" query; }
check_fails "without privilege" unprivileged
dm_remove small

# on: the origin is held, back is held, the module is held
stack_prepare "${disks[1]}"
stack_on
check_fails "dmsetup remove of the armed origin" dmsetup remove "origin$id"
refused EBUSY disarm "$id"
refused EBUSY detach "$id"
check_fails "rmmod while on" rmmod ambro
fio_start load --filename="$part" --size=8M --rw=randwrite --bs=4k --direct=1 --iodepth=8 --ioengine=libaio \
	--time_based --runtime=600
check_fails "rmmod while on under load" rmmod ambro
stack_off
check "on again" ambro on "$id"
stack_off
check "disarm" ambro disarm "$id"
refused EBUSY detach "$id" # the origin stands on back
dm_remove "origin$id"
dm_remove "snap$id"
exec {held}<"$back"
refused EBUSY detach "$id"
exec {held}<&-
stack_detach
[[ ! -e /sys/block/ambro-back$id && ! -e /sys/block/ambro-front$id ]] || fail "a disk of ours is left"
owner_stop
check "rmmod under load" rmmod ambro
