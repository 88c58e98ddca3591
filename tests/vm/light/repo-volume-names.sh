#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The images of a volume are kept under the volume's name: its number, which is the kernel's name of it, is another one when volumes
# are made in another order, as they may be after a reboot.
# vm-disks: 64M 64M
# vm-memory: 1024
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/repo.sh"

# volume_make NAME DISK: with node and link as udev makes them.
volume_make() {
	local number
	dm_make "$1" <<<"0 $(sectors_of "$2") linear $2 0"
	number=$(dmsetup info -c --noheadings -o minor "$1" | tr -d " ")
	rm -f "/dev/mapper/$1" "/dev/dm-$number"
	mknod "/dev/dm-$number" b "$(dmsetup info -c --noheadings -o major "$1" | tr -d " ")" "$number"
	ln -s "../dm-$number" "/dev/mapper/$1"
}
# both_taken INCREMENT: an image of each, mounted, is kept under its name, and is that.
both_taken() {
	local v
	for v in alpha beta; do
		mount_at "/dev/mapper/$v" "$scratch/$v"
		took "a capture of $v" taken "/dev/mapper/$v" --host h
		[[ $taken == "h/$v/"* ]] || fail "the image of $v is $taken"
		check_equal "$taken is" "$1" "$(taken_says .increment)"
	done
}

volume_make alpha "${disks[0]}"
volume_make beta "${disks[1]}"
for v in alpha beta; do
	fs_make ext4 "/dev/mapper/$v"
	mount_at "/dev/mapper/$v" "$scratch/$v"
	made_files "$scratch/$v/$v" 5
	umount_at "$scratch/$v"
done
agent_start
repo_make
both_taken full
first=$(readlink /dev/mapper/alpha)
# by way of a file, too
took "a capture into a file" ambroctl capture -q --chunk-size 128K -o "$scratch/alpha.ambro" /dev/mapper/alpha
took "an import" ambroctl import -q --host i "$scratch/alpha.ambro"
ambroctl list --host i --json | jq -e 'length == 1 and .[0].disk == "alpha"' >/dev/null || fail "what was imported is called $(ambroctl list --host i)"
for v in alpha beta; do
	umount_at "$scratch/$v"
	agent_call call Untrack s "/dev/mapper/$v" >/dev/null
	dm_remove "$v"
done
volume_make beta "${disks[1]}"
volume_make alpha "${disks[0]}"
[[ $(readlink /dev/mapper/alpha) != "$first" ]] || fail "alpha has the number that it had"
both_taken compared
