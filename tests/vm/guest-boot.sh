#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# guest-boot.sh - /init of the light guest: from the initramfs to the host's root, which is mounted
# read-only by 9p with a tmpfs above it. What a system has mounted and set is done here too, because
# busybox starts ten times as fast as a program of the host's. The rest is guest-run.sh's.

b=/bin/busybox
export PATH=/bin
stuck() {
	echo "guest-boot: $*"
	$b poweroff -f
}
must() { "$@" || stuck "cannot $*"; }
must $b mount -t proc proc /proc
must $b mount -t sysfs sysfs /sys
must $b mount -t devtmpfs dev /dev

for m in /modules/*.ko; do
	# a module may be loaded already when several need it
	$b insmod "$m" 2>/dev/null || [ -d "/sys/module/$($b basename "$m" .ko | $b cut -c 5- | $b tr - _)" ] ||
		stuck "$m does not load"
done
top=
for word in $($b cat /proc/cmdline); do
	case $word in vm.top=*) top=${word#vm.top=} ;; esac
done

# the host does not change what it has while a test runs, so what was read may be kept
must $b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /host
must $b mount -t tmpfs -o size=75% upper /upper
must $b mkdir /upper/up /upper/work
must $b mount -t overlay -o lowerdir=/host,upperdir=/upper/up,workdir=/upper/work root /root
for d in proc sys dev; do
	must $b mount --move /$d /root/$d
done

cd /root || stuck "no /root"
# new DIR [mount options…] SOURCE
new() {
	dir=$1
	shift
	$b mkdir -p "$dir"
	must $b mount "$@" "$dir"
}
new run -t tmpfs -o mode=755 run
new dev/pts -t devpts -o gid=5,mode=620,ptmxmode=666 devpts
new dev/shm -t tmpfs shm
new sys/fs/bpf -t bpf bpf
new sys/kernel/debug -t debugfs debugfs
new sys/kernel/tracing -t tracefs tracefs
new sys/fs/cgroup -t cgroup2 cgroup2
new run/vm/results -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none results
$b mkdir -p run/lock
$b mkfifo run/vm/never
$b ln -sfn /proc/self/fd dev/fd
$b ln -sfn /proc/self/mounts etc/mtab
$b hostname vm
$b ip link set lo up
$b stty -F /root/dev/ttyS1 raw -echo
# an emulated processor on a busy machine is slow, not hung
echo 60 >proc/sys/kernel/watchdog_thresh
echo 120 >proc/sys/kernel/hung_task_timeout_secs
echo -1 >proc/sys/kernel/hung_task_warnings
echo on >proc/sys/kernel/printk_devkmsg
echo 1 >proc/sys/kernel/sysrq
exec $b switch_root /root /bin/bash "$top/tests/vm/guest-run.sh" "$top"
