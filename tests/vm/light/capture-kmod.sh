#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A whole disk with ext4, xfs and swap in use, and then one partition of it, are captured through the module while they
# are written to: the image is one instant of all of them, and nothing is left below them. The store is on the disk itself.
# vm-disks: 224M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"

module_load
disk=${disks[0]}
disk_layout "$disk" <<'EOT'
label: gpt
size=72M
size=120M
size=8M, type=swap
EOT
mkfs.ext4 -q "$(part "$disk" 1)"
mkfs.xfs -q --unsupported "$(part "$disk" 2)"
mkswap -q "$(part "$disk" 3)"
swapon "$(part "$disk" 3)"
cleanup swapoff "$(part "$disk" 3)"
mount_at "$(part "$disk" 1)" "$scratch/e"
mount_at "$(part "$disk" 2)" "$scratch/x"
for d in e x; do
	made_files "$scratch/$d/files" 6
	(cd "$scratch/$d" && find files -type f -print0 | xargs -0 sha256sum) >"$scratch/sums.$d"
done
agent_start

# capture NAME SOURCE [OPTION…]: while both file systems are busy.
capture() {
	busy_start "$1-e" "$scratch/e"
	busy_start "$1-x" "$scratch/x"
	ambroctl capture "$2" -o "$scratch/$1.img" --json "${@:3}" >"$scratch/$1.json"
	busy_stop "$1-e"
	busy_stop "$1-x"
	say "$1: $(jq -c '{strategy, strategy_reason, freeze_us, store_used, store_size, duration_ms, read}' "$scratch/$1.json")"
	check_equal "$1: strategy" kmod "$(manifest "$scratch/$1.img" .strategy)"
	check_equal "$1: guarantee" filesystem-consistent "$(manifest "$scratch/$1.img" .guarantee)"
	check "$1: something was kept" test "$(jq .store_used "$scratch/$1.json")" -gt 0
	nothing_left "$scratch/e" "$scratch/x"
}
capture whole "$disk"
image_restores "$scratch/whole.img" whole-e "$scratch/sums.e" ext4 1
image_restores "$scratch/whole.img" whole-x "$scratch/sums.x" xfs 2
ok "the whole disk"
capture part "$(part "$disk" 2)" --strategy kmod --cow ram
image_restores "$scratch/part.img" part-x "$scratch/sums.x" xfs
ok "a partition"

agent_stop
umount_at "$scratch/e"
umount_at "$scratch/x"
fs_check ext4 "$(part "$disk" 1)"
fs_check xfs "$(part "$disk" 2)"
