#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Chunks of a repository rot, and `repo check` names the files that lack something by that, and which bytes: exactly those that
# are others in what `restore --skip-damaged` makes, or cannot be read in it. Of ext4, XFS and btrfs, in two images that share
# most. A directory, a table of inodes, a page of the hash tree are lost; partitions whose files nobody can tell.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq python3 mke2fs debugfs sfdisk

seed=${SEED:-$((EPOCHSECONDS * 1000 + RANDOM))}
RANDOM=$((seed % 32768))
say "seed $seed (SEED=$seed repeats it)"
chunk=65536
hurt() { python3 "$top/tests/lib/hurt-files.py" "$@"; }

# ---- a disk with a file system in each of three partitions -------------------------------------------

# random BYTES FILE
random() { head -c "$1" /dev/urandom >"$2"; }
# filled DIR: files whose every block is one of its kind, so that it can be told where it went.
filled() {
	local i
	random 5000000 "$1/big file"
	ln "$1/big file" "$1/its other name"
	mkdir -p "$1/etc/of/many/folders/that lead/down" "$1/many"
	for ((i = 0; i < 60; i++)); do
		random $((RANDOM * 3 + 5000)) "$1/etc/of/many/folders/that lead/down/$i"
		random $((RANDOM + 1)) "$1/etc/small.$i"
	done
	random 70000 "$1/etc/"$'with \001 in it'
	# two that grow in turns
	for ((i = 0; i < 40; i++)); do
		random 12000 "$scratch/piece"
		cat "$scratch/piece" >>"$1/etc/a"
		sync -f "$1"
		cat "$scratch/piece" "$scratch/piece" | tac -s x >>"$1/etc/b"
		sync -f "$1"
	done
	cp --reflink=always "$1/big file" "$1/etc/clone" 2>/dev/null || :
	(cd "$1/many" && seq -f "a name that takes its room %.0f" 1 3000 | xargs touch)
	random 300000 "$1/many/one that has something"
}

disk_make "$scratch/disk" 512M <<-'EOT'
	label: gpt
	start=2048, size=48M
	size=300M
	size=128M
	size=16M
	size=8M
EOT
kinds=([1]=ext4)
for part in 2:xfs 3:btrfs; do
	if fs_known "${part#*:}" && command -v "mkfs.${part#*:}" >/dev/null; then
		kinds[${part%:*}]=${part#*:}
	else
		say "note: without ${part#*:}"
	fi
done
# unmounted N: also by who copied our mounts into a name space of its own meanwhile.
unmounted() {
	umount_at "$scratch/mnt.$1"
	wait_for 60 python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "${loop}p$1" 2>/dev/null ||
		fail "partition $1 is still mounted somewhere"
}
# noted N IMAGE: what the file system of partition N holds now, for that image; it is mounted.
noted() {
	cp -a "$scratch/mnt.$1" "$scratch/files.$1.$2"
	(cd "$scratch/mnt.$1" && find . -type f -printf '%i /%P\n') >"$scratch/inodes.$1.$2"
}
for part in "${!kinds[@]}"; do
	fs_make "${kinds[part]}" "${loop}p$part"
	mount_at "${loop}p$part" "$scratch/mnt.$part"
	filled "$scratch/mnt.$part"
	noted "$part" old
	((part == 1)) || noted "$part" new
	unmounted "$part"
done
printf 'LUKS\xba\xbe\0\1' | dd of="${loop}p4" conv=notrunc status=none
head -c 8M /dev/urandom | dd of="${loop}p5" conv=notrunc status=none
sync

repo_make --chunk-size 64K
agent_start
taken "$scratch/disk" --host h --disk vda
declare -A image=([old]=$taken) hash=()
mount_at "${loop}p1" "$scratch/mnt.1"
random 1000000 "$scratch/mnt.1/etc/new"
noted 1 new
unmounted 1
sync
sleep 1
taken "$scratch/disk" --host h --disk vda
image[new]=$taken
# one of the disk while it is in use; the test does without what changes meanwhile
for part in "${!kinds[@]}"; do
	mount_at "${loop}p$part" "$scratch/mnt.$part"
	random 900000 "$scratch/mnt.$part/etc/fresh"
	noted "$part" live
done
sleep 1
taken "$loop" --host h --disk vda
image[live]=$taken
for part in "${!kinds[@]}"; do
	unmounted "$part"
done
sync
for which in old new live; do
	hash[$which]=$(ambroctl list --json | jq -r --arg n "${image[$which]}" '.[] | select(.name == $n) | .hash')
done
cp -a "$AMBRO_REPOSITORY" "$scratch/whole"
whole_again() {
	rm -rf "$AMBRO_REPOSITORY"
	cp -a "$scratch/whole" "$AMBRO_REPOSITORY"
}
start_of() { echo $(($(<"/sys/class/block/${loop##*/}p$1/start") * 512)); }
size_of() { blockdev --getsize64 "${loop}p$1"; }

# checked [options…]: it finds damage; $scratch/check.json, and what it says to people in $scratch/check.
checked() {
	exits_3 ambroctl repo check --read-data --json "$@" >"$scratch/check.json"
	exits_3 ambroctl repo check --read-data "$@" &>"$scratch/check"
}
exits_3() {
	local status=0
	"$@" || status=$?
	((status == 3)) || fail "exit code $status: $*"
}
# says TEXT: to people
says() { grep -qF -- "$1" "$scratch/check" || fail "it does not say \"$1\": $(cat "$scratch/check")"; }
# files JQ_FILTER: of the JSON
files() { jq -e "$1" "$scratch/check.json" >/dev/null || fail "$1: $(jq -c '.files, .file_systems' "$scratch/check.json")"; }

# ---- what files hold ---------------------------------------------------------------------------------

# named PART WHICH: what is named is what a restore lacks.
named() {
	rm -f "$scratch/part"
	exits_3 ambroctl restore --yes --skip-damaged --partition "$1" "${image[$2]}" "$scratch/part" &>/dev/null
	mkdir -p "$scratch/restored"
	mount -o "ro,loop$([[ ${kinds[$1]} != xfs ]] || echo ,nouuid,norecovery)" "$scratch/part" "$scratch/restored"
	cleanup umount_at "$scratch/restored"
	hurt compare "$scratch/check.json" "${image[$2]}" "$1" "$scratch/inodes.$1.$2" "$scratch/files.$1.$2" "$scratch/restored" >&2
	umount_at "$scratch/restored"
}
for part in "${!kinds[@]}"; do
	hurt chunks "$scratch/disk" "$(start_of "$part")" "$(size_of "$part")" $chunk "$scratch/files.$part.new" 12 "$seed" >"$scratch/chunks"
	read -ra chunks <"$scratch/chunks"
	hurt lose "$AMBRO_REPOSITORY" "${hash[new]}" "${chunks[@]}"
done
checked
files '.ok == false and .images_hurt == 3 and all(.file_systems[]; .told and (.incomplete | not))'
# what is behind the end of a file in its last block
files 'all(.file_systems[]; (.others // 0) < '$chunk')'
files '[.file_systems[] | {partition, file_system}] | unique_by(.partition) == [{"partition": 1, "file_system": "ext4"}'"$(
	[[ ! ${kinds[2]:-} ]] || printf ', {"partition": 2, "file_system": "xfs"}'
	[[ ! ${kinds[3]:-} ]] || printf ', {"partition": 3, "file_system": "btrfs"}')"']'
for part in "${!kinds[@]}"; do
	named "$part" new
	named "$part" old
	named "$part" live
done
# these partitions did not change
for part in "${!kinds[@]}"; do
	((part > 1)) || continue
	files "any(.file_systems[]; .partition == $part and .image == \"${image[old]}\" and .same_as == \"${image[new]}\")"
	says "${image[old]}: partition $part (${kinds[part]}): the same as in ${image[new]}"
done
says "${image[live]}: partition 1 (ext4): /"
! grep -q $'\001' "$scratch/check" || fail "a control character is printed"
cp "$scratch/check.json" "$scratch/before.json"

# without: nothing more than which bytes
checked --no-files
files 'has("files") or has("file_systems") | not'
! grep -q "(ext4)" "$scratch/check" || fail "--no-files: $(cat "$scratch/check")"

# a repair tells it as well
exits_3 ambroctl repo repair --json >"$scratch/check.json"
jq -S '.files' "$scratch/check.json" >"$scratch/repair.json"
jq -S '.files' "$scratch/before.json" | cmp - "$scratch/repair.json" || fail "a repair names other files"
whole_again

# ---- what file systems keep for themselves --------------------------------------------------------------

p1=$(start_of 1)
block=$(dumpe2fs -h "${loop}p1" 2>/dev/null | awk '/^Block size/ { print $3 }')
inode_of() { sed -n "s|^\([0-9]*\) $1\$|\1|p" "$scratch/inodes.1.new"; }
# chunks_of INODE [N]: bytes of the disk where the chunks begin that its blocks, or its N-th block, are in
chunks_of() {
	debugfs -R "blocks <$1>" "${loop}p1" 2>/dev/null | tr ' ' '\n' | awk -v p="$p1" -v b="$block" -v c=$chunk -v n="${2:-}" \
		'NF && (++i == n || n == "") { print p + int($1 * b / c) * c }' | sort -u
}

# any tables: who is named lacks just that, and where nobody is said to be missing nobody is
for ((round = 0; round < 3; round++)); do
	for part in "${!kinds[@]}"; do
		for what in chunks tables; do
			hurt "$what" "$scratch/disk" "$(start_of "$part")" "$(size_of "$part")" $chunk "$scratch/files.$part.new" \
				$((round * 3 + 1)) $((seed + round)) >"$scratch/chunks"
			read -ra chunks <"$scratch/chunks"
			hurt lose "$AMBRO_REPOSITORY" "${hash[new]}" "${chunks[@]}"
		done
	done
	checked
	for part in "${!kinds[@]}"; do
		hurt sound "$scratch/check.json" "${image[new]}" "$part" "$scratch/disk" "$scratch/inodes.$part.new" "$scratch/files.$part.new" >&2
	done
	whole_again
done

# all of a directory: what it named has no name
inode=$(inode_of "/many/one that has something")
many=$(debugfs -R "stat /many" "${loop}p1" 2>/dev/null | sed -n 's/^Inode: \([0-9]*\).*/\1/p')
mapfile -t chunks < <(chunks_of "$many" && chunks_of "$inode" 200)
hurt lose "$AMBRO_REPOSITORY" "${hash[new]}" "${chunks[@]}"
checked
files 'any(.files[]; .kind == "directory" and .path == "/many" and .offset == null)'
files "any(.files[]; .kind == \"data\" and .path == null and .inode == $inode)"
files 'any(.file_systems[]; .incomplete)'
says "partition 1 (ext4): /many: names in the directory"
says "inode $inode (no name was found) lacks "
whole_again

# the table of inodes that says where a file is, and some of that file
inode=$(inode_of "/big file")
place=$(debugfs -R "imap <$inode>" "${loop}p1" 2>/dev/null | sed -n 's/.*located at block \([0-9]*\).*/\1/p')
hurt lose "$AMBRO_REPOSITORY" "${hash[new]}" $((p1 + place * block)) "$(chunks_of "$inode" 2000)"
checked
of="select(.image == \"${image[new]}\")"
files "[.file_systems[] | $of] | length == 1 and (.[0] | .told and .incomplete and .others == 2 * $chunk and (.why | length > 0))"
files "[.files[] | $of] == []"
# the older image has another chunk there, and tells it
files "any(.files[]; .image == \"${image[old]}\" and .inode == $inode and .path != null)"
says "partition 1 (ext4): not all could be found out: "
says "free or the file system's own tables"
whole_again

# a page of the hash tree: with it all that is in the partition
hurt lose-page "$AMBRO_REPOSITORY" "${hash[new]}" "$p1"
checked
files "[.file_systems[] | select(.partition == 1)] | length == 1 and (.[0] | .told | not) and .[0].lost == $(size_of 1)"
says "${image[new]}: partition 1 (ext4): its files cannot be told: "
whole_again

# ---- what is no file system -----------------------------------------------------------------------------

hurt lose "$AMBRO_REPOSITORY" "${hash[new]}" 0 "$(start_of 4)" "$(start_of 5)"
checked
files '(.files == []) and all(.file_systems[]; (.told | not) and (.same_as or (.why | length > 0)))'
says "${image[live]}: partition 4 (crypto_LUKS): its files cannot be told: it holds crypto_LUKS, which is encrypted"
says "${image[live]}: partition 5: its files cannot be told: what it holds is not known"
says "${image[live]}: from byte 0 on: its files cannot be told: it lies outside of the partitions"
says "${image[old]}: partition 5: the same as in ${image[live]}"
whole_again
ambroctl repo check --read-data --json >"$scratch/check.json" || fail "it was not put back"
files '.files == [] and .file_systems == []'

# ---- an encrypted repository ----------------------------------------------------------------------------

ambroctl key generate "$scratch/key" >/dev/null
export AMBRO_REPOSITORY=$scratch/encrypted
ambroctl repo init --chunk-size 64K --encrypt --key-file "$scratch/key" >/dev/null
taken "$scratch/disk" --host h --disk vda --key-file "$scratch/key"
pack=$(find "$AMBRO_REPOSITORY/packs" -type f -size +4M | sort | head -n 1)
chmod u+w "$pack"
for ((i = 1; i < 20; i++)); do
	printf rot | dd of="$pack" bs=1 seek=$((i * 150000)) conv=notrunc status=none
done
checked --key-file "$scratch/key"
files 'any(.file_systems[]; .told) and (.files | length > 0)'
says "$taken: partition "
# who has no key learns which pack, and nothing else
checked --no-key
files '(.damages | length == 1) and .files == [] and .file_systems == []'
! grep -q "partition" "$scratch/check" || fail "--no-key: $(cat "$scratch/check")"
