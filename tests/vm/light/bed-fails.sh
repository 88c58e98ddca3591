#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bed-fails WAY - a test that has to fail; tests/vm/test-bed.sh sees that it does.
# vm-by-hand: all.sh does not run it
# vm-disks: 32M
# vm-expect-dmesg: WARNING: this one is expected

# lib.sh would notice some of it by itself
case $1 in
exit) exit 3 ;;
skip) echo "skipped: not today" && exit 77 ;;
warning) echo "WARNING: a fake one" >/dev/kmsg ;;
expected) echo "WARNING: this one is expected" >/dev/kmsg ;;
# the kernel's own, of every processor
trace)
	echo l >/proc/sysrq-trigger
	sleep 1
	;;
panic)
	echo c >/proc/sysrq-trigger
	sleep infinity
	;;
timeout)
	echo "this was said before"
	sleep infinity
	;;
# what was left frozen must not keep the guest from ending
frozen)
	mkfs.ext4 -q "$VM_DISKS" && mkdir /run/mnt && mount "$VM_DISKS" /run/mnt && fsfreeze -f /run/mnt || exit 77
	touch /run/mnt/file &
	sleep 1
	exit 4
	;;
*) exit 77 ;;
esac
