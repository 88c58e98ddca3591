#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# quickstart.sh - capture a live disk that is mounted and written to, restore it to another disk, and
# prove that what came back is the first one at one instant. Needs root; leaves nothing behind.
. "$(dirname "$0")/lib/functions.sh"

require_root
require sfdisk partx losetup mkfs.xfs mkfs.vfat e2fsck fsck.vfat xfs_repair jq python3

if [[ -t 1 ]]; then bold=$'\e[1m' green=$'\e[32m' off=$'\e[0m'; else bold='' green='' off=''; fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
step() { printf '      %s\n' "$*"; }
proved() { printf '  %sok%s  %s\n' "$green" "$off" "$*"; }
now_us() { printf '%s\n' "${EPOCHREALTIME/./}"; }
# shown COMMAND…: as one would type it, and what it does; $took, microseconds.
shown() {
	local began
	printf '  %s$ %s%s\n' "$bold" "$*" "$off"
	began=$(now_us)
	"$@"
	took=$(($(now_us) - began))
}
mib() { awk -v n="$1" 'BEGIN { printf "%.0f MiB", n / 1048576 }'; }
secs() { awk -v n="$1" 'BEGIN { printf "%.1f s", n / 1e6 }'; }
rate() { awk -v n="$1" -v us="$2" 'BEGIN { printf "%.0f MiB/s", n / 1.048576 / us }'; }
row() { printf '  %-38s %s\n' "$1" "$2"; }

cd "$scratch"
heading "1. A disk that is alive"
disk_make "$scratch/disk" 2G <<'TABLE'
label: gpt
size=96M,   type=uefi,  name=esp
size=1200M, type=linux, name=root
size=500M,  type=linux, name=data
size=128M,  type=swap,  name=swap
TABLE
disk=$loop
fs_make vfat "${disk}p1" ESP
fs_make ext4 "${disk}p2" root
fs_make xfs "${disk}p3" data
fs_make swap "${disk}p4" swap
parts=(2 3) names=(root data) types=(ext4 xfs)
if fs_known vfat; then
	parts+=(1) names+=(esp) types+=(vfat)
else
	vfat_fill "${disk}p1"
fi
for i in "${!names[@]}"; do
	mount_at "${disk}p${parts[i]}" "$scratch/${names[i]}"
done
fs_known vfat && some_files "$scratch/esp/files" 16
some_files "$scratch/root/files" 400
some_files "$scratch/data/files" 80
some_files "$scratch/root/old" 200 && sync && rm -r "$scratch/root/old"
sync
for n in "${names[@]}"; do sums "$scratch/$n/files" >"$scratch/$n.sums"; done
step "$disk, 2 GiB, GPT: vfat, ext4, xfs, swap; mounted: ${types[*]}"
step "$(cat "$scratch"/*.sums | wc -l) files of this system copied to it, $(df -BM --output=used \
	"${names[@]/#/$scratch/}" | awk 'NR > 1 { n += $1 } END { print n }') MiB in use; 200 MiB more written and deleted"

for n in root data; do
	mkdir "$scratch/$n/acked"
	witness_start "$n" "$scratch/$n/acked" --rate 100
done
step "two programs write 100 files a second each; a file counts once fsync() has returned for it"
agent_start
printf '  %s$ ambrod --socket sock &%s\n' "$bold" "$off"
sleep 2

heading "2. Capture it, while it is being written to"
image=disk.zst
shown ambroctl capture "$disk" -o "$image"
capture_us=$took
sleep 1
for n in root data; do witness_stop "$n"; done
proved "the writers went on; their slowest write waited $(jq -s 'map(.worst_ms) | max' "$scratch"/{root,data}.json) ms"

heading "3. What is in the image, and is it whole?"
shown ambroctl show "$image"
shown ambroctl verify "$image"
proved "every chunk has the hash that the image's one root of trust, its manifest, says"

heading "4. Restore it to another, larger disk"
truncate -s 3G "$scratch/new"
loop_make "$scratch/new"
new=$loop
shown ambroctl restore "$image" "$new" --yes
restore_us=$took
partitions_add "$new"
sfdisk -q --verify "$new" &>/dev/null || fail "the partition table is not right"
proved "the partition table is right for the new disk"
reader "$image" second
for r in $(manifest "$image" '.regions[] | select(.partition) | "\(.start):\(.length)"'); do
	cmp -i "${r%:*}" -n "${r#*:}" second "$new" || fail "the second reader disagrees"
done
proved "a second reader (Python, written from docs/FORMAT.md alone) makes the same bytes of the image"

heading "5. Is it the same?"
for i in "${!names[@]}"; do
	n=${names[i]} t=${types[i]}
	fs_check "$t" "${new}p${parts[i]}"
	options=ro
	[[ $t != xfs ]] || options=ro,nouuid # the first disk is still mounted
	mount_at "${new}p${parts[i]}" "$scratch/new-$n" -o "$options"
	sums "$scratch/new-$n/files" | cmp - "$scratch/$n.sums" || fail "$n: files differ"
	proved "$t '$n': its checker finds nothing wrong, $(wc -l <"$scratch/$n.sums") files have their SHA-256"
done
fs_known vfat || {
	fs_check vfat "${new}p1"
	same "${disk}p1" "${new}p1"
	proved "vfat 'esp' (this kernel cannot mount it): its checker finds nothing wrong, it is the same"
}
[[ $(blkid -p -o value -s LABEL "${new}p4") == swap ]] || fail "the swap header is missing"
proved "swap: its label and id are there, its content is not"
for n in root data; do
	witness_check "$n" "$scratch/new-$n/acked" "$image" 2>/dev/null
	proved "'$n': all $(jq .ok "$scratch/$n.check") files acknowledged before the instant are there and whole, none is newer"
done

used=$(manifest "$image" '[.regions[].used] | add') stored=$(stat -c %s "$image")
heading "In short"
row "disk" "2048 MiB, $(mib "$used") of it in use"
row "image" "$(mib "$stored"), $(awk -v a="$used" -v b="$stored" 'BEGIN { printf "%.0f %%", b * 100 / a }') of what is in use"
row "capture" "$(secs "$capture_us"), $(rate "$used" "$capture_us")"
row "passes over what had changed" "$(manifest "$image" .capture.passes)"
row "file systems were frozen for" "$(manifest "$image" '.capture.freeze_us / 1000') ms"
row "a write + fsync: median, 99 %, worst" "$(jq -rs \
	'"\(map(.p50_ms) | max) ms, \(map(.p99_ms) | max) ms, \(map(.worst_ms) | max) ms"' "$scratch"/{root,data}.json)"
row "restore" "$(secs "$restore_us"), $(rate "$used" "$restore_us")"
row "acknowledged files checked" "$(jq -s 'map(.ok) | add' "$scratch"/{root,data}.check), lost 0, damaged 0, newer 0"
printf '\n'
