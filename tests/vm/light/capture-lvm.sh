#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# LVM while one of its volumes is captured: what only looks answers, what would change the group waits until the capture is over
# and then works, and the volume has its own table again. And while its disk is captured as a whole, by kmod, LVM sees each
# physical volume once.
# vm-disks: 128M
# vm-modules: dm-snapshot
# vm-timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/faults.sh"

require lvm
disk=${disks[0]} dir=$scratch/dir volume=/dev/mapper/vg-data
export LVM_SYSTEM_DIR=$scratch/lvm LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p "$LVM_SYSTEM_DIR"
cat >"$LVM_SYSTEM_DIR/lvm.conf" <<-EOT
	activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
	devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 external_device_info_source = "none" }
	backup { backup = 0 archive = 0 }
EOT

vgcreate -q vg "$disk" || fail "vgcreate"
cleanup vgchange -q -an vg
lvcreate -q -n data -L 48M vg || fail "lvcreate"
fs_make ext4 "$volume"
mount_at "$volume" "$dir"
made_files "$dir/files" 4
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
table=$(dmsetup table vg-data)

# looks WHEN [WARNING]: LVM shows the group, and says nothing else but that.
looks() {
	local noise=${2:-^$}
	timeout 120 lvs --noheadings -o lv_name,lv_active vg >"$scratch/lvs" 2>"$scratch/lvs.err" || fail "lvs: $(cat "$scratch/lvs.err")"
	timeout 120 pvs --noheadings -o pv_name,vg_name >"$scratch/pvs" 2>"$scratch/pvs.err" || fail "pvs: $(cat "$scratch/pvs.err")"
	check "$1: lvs" grep -q '^ *data *active *$' "$scratch/lvs"
	check_equal "$1: pvs" "$disk vg" "$(xargs <"$scratch/pvs")"
	check_equal "$1: no complaint" "" "$(cat "$scratch/lvs.err" "$scratch/pvs.err" | grep -v "$noise")"
}

looks before
agent_start_pausing mapped
mkdir "$dir/w"
witness_start w "$dir/w" --rate 20 --size 4096
capture_start "$volume" "$scratch/v.img"
agent_comes_to mapped
# the device that is now below it has none of LVM's identifiers, by which LVM would know it
looks "while a volume is captured" 'Device mismatch detected for vg/data'
check "the volume has the snapshot's table" grep -q snapshot-origin <<<"$(dmsetup table vg-data)"
lvcreate -n more -L 8M -Wn vg &>"$scratch/lvcreate" &
creating=$!
sleep 5
check "lvcreate waits" kill -0 "$creating"
check "and has left the table alone" grep -q snapshot-origin <<<"$(dmsetup table vg-data)"
agent_goes_on
capture_ends
check_equal "captured ($(tail -n 1 "$scratch/v.img.log"))" 0 "$client_status"
wait "$creating" || fail "lvcreate: $(cat "$scratch/lvcreate")"
ok "lvcreate then goes on: $(tail -n 1 "$scratch/lvcreate")"
witness_stop w
check_equal "strategy" dm "$(manifest "$scratch/v.img" .strategy)"
check_equal "the volume has its table again" "$table" "$(dmsetup table vg-data)"
nothing_left "$dir"
image_restores "$scratch/v.img" w "$scratch/sums" ext4
agent_stop

lvextend -q -L +8M vg/data &>"$scratch/lvextend" || fail "lvextend: $(cat "$scratch/lvextend")"
ok "the group can be changed"

module_load
agent_log=$scratch/agent-whole.log
agent_start_pausing mapped
capture_start "$disk" "$scratch/disk.img"
agent_comes_to mapped
looks "while the whole disk is captured"
agent_goes_on
capture_ends
check_equal "captured ($(tail -n 1 "$scratch/disk.img.log"))" 0 "$client_status"
check_equal "strategy" kmod "$(manifest "$scratch/disk.img" .strategy)"
agent_stop
nothing_left "$dir"
umount_at "$dir"
fs_check ext4 "$volume"
