#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every kind of bio that front treats in its own way, while a snapshot is active: the caller gets what it is
# due, and the snapshot does not change.
# vm-disks: 40M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$top/tests/vm/kmod.sh"

disk_layout "${disks[0]}" <<<'label: gpt
size=16M
size=8M
size=8M'
fs=$(part "${disks[0]}" 1)
raw=$(part "${disks[0]}" 2)
swap=$(part "${disks[0]}" 3)
fs_make ext4 "$fs"
fs_make swap "$swap"
random_onto "$raw" 8
mount_at "$fs" "$scratch/fs"
files_make "$scratch/fs/files" 3
kmod_load
owner_start
cleanup stack_clean
stack_attach "${disks[0]}"
stack_prepare "${disks[1]}"
sync -f "$scratch/fs"
stack_on "$scratch/fs"

# flagged DEVICE FLAG: 500 direct writes with it; 0 when all went through or would have had to wait
flagged() {
	python3 - "$@" <<-'EOT'
		import errno, mmap, os, sys
		fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
		flag = getattr(os, sys.argv[2])
		m = mmap.mmap(-1, 4096)
		done = waits = 0
		for i in range(500):
		    m.seek(0)
		    m.write(os.urandom(4096))
		    try:
		        done += os.pwritev(fd, [m], i * 4096, flag) == 4096
		    except OSError as e:
		        if e.errno != errno.EAGAIN:
		            raise
		        waits += 1
		print(sys.argv[2], done, "done", waits, "would wait", file=sys.stderr)
		assert done > 400
	EOT
}
before=$(query redirected)
check "NOWAIT" flagged "$raw" RWF_NOWAIT
check "polled" flagged "$raw" RWF_HIPRI
(($(query redirected) >= before + 800)) || fail "they did not go through front"
snapshot_is_truth "after NOWAIT and polled writes"

# done_without ERRNO-OR-0 ...: a discard says it is done and leaves the data alone
data=$(hash_of "$raw")
check "blkdiscard" blkdiscard -f "$raw"
check_equal "which did nothing" "$data" "$(hash_of "$raw")"
check "fstrim" fstrim "$scratch/fs"
(($(query discards) > 1)) || fail "no discards counted"
check "zeroing" blkdiscard -f -z "$raw"
check_equal "which did it" "$(head -c 8M /dev/zero | md5sum | cut -d ' ' -f 1)" "$(hash_of "$raw")"
check_fails "secure erase" blkdiscard -f -s "$raw"
snapshot_is_truth "after discards and zeroes"

raw_write() { dd if=/dev/urandom of="${disks[0]}" bs=64k seek=$((17 * 16)) count=8 oflag=direct conv=notrunc status=none; }
check "raw write to the whole disk" raw_write
buffered() { dd if=/dev/urandom of="$raw" bs=64k count=16 conv=fsync status=none; }
check "buffered raw write" buffered
uring() {
	fio --name=u --filename="$raw" --size=4M --rw=randwrite --bs=4k --ioengine=io_uring --direct=1 --iodepth=16 --nowait=1 \
		--verify=crc32c >"$scratch/u.fio" 2>&1 || { cat "$scratch/u.fio" && return 1; }
}
check "io_uring" uring
snapshot_is_truth "after raw writes"

# swap in earnest: a process's memory is pushed out and must come back the same
group=/sys/fs/cgroup/swapped
mkdir "$group"
check "swapon" swapon "$swap"
in_and_out() {
	python3 - "$group" <<-'EOT'
		import os, sys
		open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
		m = bytearray(os.urandom(4 << 20))
		copy = hash(bytes(m))
		try:
		    open(sys.argv[1] + "/memory.reclaim", "w").write("4M")
		except OSError as e:
		    print("reclaim:", e, file=sys.stderr)
		print("swapped", open(sys.argv[1] + "/memory.swap.current").read().strip(), file=sys.stderr)
		assert hash(bytes(m)) == copy
	EOT
}
if [[ -e $group/memory.reclaim || -e /sys/fs/cgroup/cgroup.controllers ]]; then
	echo "+memory +io" >/sys/fs/cgroup/cgroup.subtree_control || true
	check "memory comes back from swap" in_and_out
fi
check "swapoff" swapoff "$swap"
snapshot_is_truth "after swapping"

# io.max of the disk holds through the stack, and off waits for what it holds back
slow=/sys/fs/cgroup/slow
mkdir "$slow"
number=$(lsblk -dno MAJ:MIN "${disks[0]}" | tr -d ' ')
echo "$number wiops=40" >"$slow/io.max"
in_slow() {
	echo "$BASHPID" >"$slow/cgroup.procs"
	exec "$@"
}
began=${EPOCHREALTIME/./}
(in_slow dd if=/dev/urandom of="$raw" bs=4k count=80 oflag=direct conv=notrunc status=none)
ms=$(((${EPOCHREALTIME/./} - began) / 1000))
say "80 writes at 40 a second took $ms ms"
((ms > 1200)) || fail "io.max does not hold"
(in_slow fio --name=slow --filename="$raw" --size=4M --rw=write --bs=4k --ioengine=libaio --direct=1 --iodepth=32 \
	--number_ios=100 >"$scratch/slow.fio" 2>&1) &
held() { (($(query in_flight) > 8)); }
wait_for 60 held || fail "nothing is held back"
stack_off
wait $! || fail "fio: $(tail -n 5 "$scratch/slow.fio")"
check_equal "missed" 0 "$(query missed)"
stack_remove
stack_detach
umount_at "$scratch/fs"
check "fsck" e2fsck -fn "$fs"
