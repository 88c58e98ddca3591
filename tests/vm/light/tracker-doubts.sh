#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Commands that change a disk and do not say where: a passthrough write to a SCSI disk and to an NVMe one, a zone that is reset. The
# tracker does not pretend to know: the next increment compares everything, and has what they wrote. A passthrough command that only
# reads raises no doubt.
# vm-disks: 16M,bus=scsi 16M,bus=nvme
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../../lib/increment.sh"
. "$(dirname "$0")/../../lib/tracker.sh"
increment_ready
tracker_ready
# of the guest's root nobody can tell whether it lies on the disk
mount_at tmpfs "$scratch" -t tmpfs

# passthrough scsi|nvme DISK read|write SECTOR FILE: 4096 bytes, to FILE or from it.
passthrough() {
	python3 - "$@" <<-'EOT'
		import ctypes as c, fcntl, sys
		kind, disk, what, sector, file = sys.argv[1:]
		sector, write = int(sector), what == 'write'
		data = c.create_string_buffer(open(file, 'rb').read(4096) if write else 4096, 4096)

		class Sg(c.Structure):
		    _fields_ = [('id', c.c_int), ('direction', c.c_int), ('cmd_len', c.c_ubyte), ('mx_sb_len', c.c_ubyte),
		                ('iovecs', c.c_ushort), ('length', c.c_uint), ('data', c.c_void_p), ('cmd', c.c_void_p),
		                ('sense', c.c_void_p), ('timeout', c.c_uint), ('flags', c.c_uint), ('pack', c.c_int),
		                ('user', c.c_void_p), ('status', c.c_ubyte), ('masked', c.c_ubyte), ('msg', c.c_ubyte),
		                ('sb_len', c.c_ubyte), ('host', c.c_ushort), ('driver', c.c_ushort), ('resid', c.c_int),
		                ('duration', c.c_uint), ('info', c.c_uint)]

		class Nvme(c.Structure):
		    _fields_ = [('opcode', c.c_ubyte), ('flags', c.c_ubyte), ('r1', c.c_ushort), ('nsid', c.c_uint),
		                ('cdw2', c.c_uint), ('cdw3', c.c_uint), ('metadata', c.c_uint64), ('data', c.c_uint64),
		                ('metadata_len', c.c_uint), ('length', c.c_uint), ('cdw', c.c_uint * 6),
		                ('timeout', c.c_uint), ('result', c.c_uint)]

		with open(disk, 'rb') as f:
		    if kind == 'scsi':
		        cmd = c.create_string_buffer(bytes([0x2a if write else 0x28, 0]) + sector.to_bytes(4, 'big') + bytes([0, 0, 8, 0]), 10)
		        sense = c.create_string_buffer(64)
		        p = Sg(id=ord('S'), direction=-2 if write else -3, cmd_len=10, mx_sb_len=64, length=4096,
		               data=c.addressof(data), cmd=c.addressof(cmd), sense=c.addressof(sense), timeout=20000)
		        fcntl.ioctl(f, 0x2285, p)
		        bad = p.status or p.host or p.driver
		    else:
		        p = Nvme(opcode=1 if write else 2, nsid=1, data=c.addressof(data), length=4096, timeout=20000)
		        p.cdw[0], p.cdw[2] = sector, 7
		        bad = fcntl.ioctl(f, 0xC0484E43, p)
		if bad:
		    sys.exit(f'{kind} {what}: {bad}')
		if not write:
		    open(file, 'wb').write(data.raw)
	EOT
}

agent_start
n=0
for kind in scsi nvme; do
	disk=${disks[n++]}
	head -c 8M /dev/urandom | dd of="$disk" bs=1M iflag=fullblock oflag=direct conv=nocreat status=none
	whole "parent-$kind" "$disk"
	passthrough "$kind" "$disk" read 2048 "$scratch/got"
	dd if="$disk" bs=4096 skip=256 count=1 iflag=direct status=none | cmp - "$scratch/got" || fail "$kind: it read something else"
	check_equal "$kind: a command that reads raises no doubt" none "$(tracker doubt "$disk")"
	increment "read-$kind" "$disk" "parent-$kind" tracked
	head -c 4096 /dev/urandom >"$scratch/data"
	passthrough "$kind" "$disk" write 4096 "$scratch/data"
	dd if="$disk" bs=4096 skip=512 count=1 iflag=direct status=none | cmp - "$scratch/data" || fail "$kind: it was not written"
	[[ $(tracker doubt "$disk") == *"a passthrough command sent data to it" ]] || fail "$kind: doubt: $(tracker doubt "$disk")"
	ok "$kind: one that writes does"
	increment "write-$kind" "$disk" "parent-$kind" compared
	dd if="$disk" bs=1M iflag=direct status=none | cmp - "$scratch/write-$kind.raw" || fail "$kind: the increment is not the disk"
	ok "$kind: the increment has what was written"
	whole "parent-$kind" "$disk"
	increment "again-$kind" "$disk" "parent-$kind" tracked
done

modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=64 memory_backed=1
[[ -b /dev/nullb0 ]] || fail "no zoned disk"
cleanup modprobe -r null_blk
tracker_new /dev/nullb0
dd if=/dev/urandom of=/dev/nullb0 bs=64k count=1 oflag=direct conv=nocreat status=none
check_equal "zones: writes raise no doubt" none "$(tracker doubt /dev/nullb0)"
# BLKRESETZONE of the first one
python3 -c 'import fcntl, struct
fcntl.ioctl(open("/dev/nullb0", "rb+", buffering=0), 0x40101283, struct.pack("QQ", 0, 64 << 11))'
[[ $(tracker doubt /dev/nullb0) == *"it got a zone command or"* ]] || fail "a zone was reset: $(tracker doubt /dev/nullb0)"
ok "zones: a reset does"
