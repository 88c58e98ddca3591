#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the middle of a capture by kmod the disk gets a new partition, which is not part of the image's instant; and then the disk
# is pulled out: that capture fails, the agent lives, nothing of ours is left, and another disk is captured as ever.
# vm-disks: 96M,bus=scsi 48M
# vm-modules: dm-snapshot
# vm-timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/faults.sh"

module_load
disk=${disks[0]} other=${disks[1]} dir=$scratch/dir
disk_layout "$disk" <<'EOT'
label: gpt
size=64M
EOT
fs_make ext4 "$(part "$disk" 1)"
fs_make ext4 "$other"
mount_at "$(part "$disk" 1)" "$dir"
mount_at "$other" "$scratch/other"
for d in dir other; do
	made_files "$scratch/$d/files" 4
done
(cd "$dir" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums"
sfdisk -d "$disk" >"$scratch/layout"

agent_start_pausing mapped
mkdir "$dir/w"
witness_start w "$dir/w" --rate 20 --size 4096
capture_start "$disk" "$scratch/new.img" --strategy kmod --cow ram
agent_comes_to mapped
sfdisk -q --append --no-reread --no-tell-kernel "$disk" <<<'size=8M' || fail "sfdisk"
partx -a -n 2 "$disk" || fail "partx"
check "there is a new partition" wait_for 60 test -b "$(part "$disk" 2)"
fs_make ext4 "$(part "$disk" 2)"
agent_goes_on
capture_ends
witness_stop w
agent_stop
nothing_left "$dir"
if ((client_status == 0)); then
	image_restores "$scratch/new.img" w "$scratch/sums" ext4 1
	ambroctl restore "$scratch/new.img" "$scratch/new.raw" --yes >/dev/null
	sfdisk -d "$scratch/new.raw" >"$scratch/layout.new"
	check_equal "the image has the instant's table" "$(grep -c start= "$scratch/layout")" \
		"$(grep -c start= "$scratch/layout.new")"
else
	ok "a disk that is made anew is refused: $(tail -n 1 "$scratch/new.img.log")"
fi

agent_log=$scratch/agent-gone.log
agent_start_pausing mapped
fio_start noise --directory="$dir" --size=4M --rw=randwrite --bs=16k --ioengine=psync --fsync=8 --time_based --runtime=280
capture_start "$disk" "$scratch/gone.img" --strategy kmod --cow ram
agent_comes_to mapped
echo 1 >"/sys/block/${disk##*/}/device/delete"
check "the disk is gone" wait_for 60 test ! -e "/sys/block/${disk##*/}"
agent_goes_on
capture_ends
check "the capture fails: $(tail -n 1 "$scratch/gone.img.log")" test "$client_status" != 0
check "no image" test ! -e "$scratch/gone.img"
check "the agent lives" agent_answers
fio_stop noise
nothing_left
capture_start "$other" "$scratch/other.img" --strategy kmod
capture_ends
check_equal "another disk is captured ($(tail -n 1 "$scratch/other.img.log"))" 0 "$client_status"
agent_stop
nothing_left "$scratch/other"
umount -l "$dir" 2>/dev/null || :
