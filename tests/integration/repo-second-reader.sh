#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The second reader, which shares no code with ours, makes the same bytes of every image of a repository, plain and encrypted,
# through increments, forget, prune and repacking; and refuses what is damaged.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require python3 jq mke2fs debugfs sfdisk

second() { python3 "$top/tests/golden/repo_reader.py" "${key[@]}" "$@"; }
key=()

# agree WHEN: on which images there are, what they are, and that all is whole.
agree() {
	local image
	ambroctl list --json "${key[@]}" >"$scratch/ours.json"
	jq -r '.[] | "\(.hash) \(.name) \(.tags | join(",") | if . == "" then "-" else . end)"' \
		"$scratch/ours.json" | sort >"$scratch/ours"
	second "$AMBRO_REPOSITORY" | sort | cmp - "$scratch/ours" || fail "$1: the lists do not agree"
	while read -r image _; do
		rm -f "$scratch/out" "$scratch/out2"
		ambroctl restore --yes "$image" "$scratch/out" "${key[@]}" &>"$scratch/restore" || fail "$(cat "$scratch/restore")"
		second "$AMBRO_REPOSITORY" "${image:0:16}" "$scratch/out2"
		cmp "$scratch/out" "$scratch/out2" || fail "$1: the readers do not agree on $image"
	done <"$scratch/ours"
	second --check "$AMBRO_REPOSITORY" || fail "$1: the second reader's check"
	ambroctl repo check --read-data "${key[@]}" &>"$scratch/check" || fail "$1: $(cat "$scratch/check")"
	say "$1: $(wc -l <"$scratch/ours") images, $(find "$AMBRO_REPOSITORY" -type f | wc -l) objects"
}

# a disk with a table, a gap, two file systems
mkdir "$scratch/files"
some_files "$scratch/files" 5
truncate -s 32M "$scratch/disk"
sfdisk -q "$scratch/disk" <<-'EOT'
	label: gpt
	start=2048, size=16M
	start=40960, size=8M
EOT
mke2fs -qqF -t ext4 -d "$scratch/files" "$scratch/fs" 16M
dd if="$scratch/fs" of="$scratch/disk" bs=1M seek=1 conv=notrunc,sparse status=none

# changed N: some of it is another one.
changed() {
	head -c $((300000 + $1 * 70000)) /dev/urandom >"$scratch/own"
	dd if="$scratch/disk" of="$scratch/fs" bs=1M skip=1 count=16 status=none
	debugfs -w -R "write $scratch/own own.$1" "$scratch/fs" &>/dev/null
	debugfs -w -R "rm own.$(($1 - 2))" "$scratch/fs" &>/dev/null || :
	dd if="$scratch/fs" of="$scratch/disk" bs=1M seek=1 conv=notrunc,sparse status=none
	head -c 100000 /dev/urandom | dd of="$scratch/disk" bs=1M seek=$((21 + $1 % 6)) conv=notrunc status=none
}

# life: what happens to a repository, with all ways to lay it out anew.
life() {
	local n
	for n in 1 2 3; do
		changed "$n"
		taken "$scratch/disk" --host web --disk vda --tag "day-$n" --tag every "${key[@]}"
		sleep 1 # names have seconds
	done
	taken "$scratch/files.raw" --host db --disk odd "${key[@]}"
	agree "$1: full and increments"
	ambroctl forget --host web --disk vda --keep-last 1 --yes "${key[@]}" >/dev/null
	[[ $(second --forgotten "$AMBRO_REPOSITORY" | wc -l) == 4 ]] || fail "$1: forgotten images are still there"
	agree "$1: forgotten"
	changed 4
	taken "$scratch/disk" --host web --disk vda "${key[@]}"
	ambroctl prune "${key[@]}" &>/dev/null
	agree "$1: marked"
	ambroctl prune --grace 0 --repack-dead 1 "${key[@]}" &>/dev/null
	agree "$1: pruned and repacked"
	rm -r "$AMBRO_REPOSITORY/index"
	ambroctl repo repair "${key[@]}" &>/dev/null
	agree "$1: repaired"
}

# a disk that ends within a chunk, without a table; one of its chunks is what a page is
head -c 777777 /dev/urandom >"$scratch/files.raw"
printf '\0\0\0\0\1\0\0\0\0' | dd of="$scratch/files.raw" conv=notrunc status=none
truncate -s 1000448 "$scratch/files.raw"
agent_start
repo_make --chunk-size 64K
life plain
plain=$AMBRO_REPOSITORY

# one flipped bit in any object
while read -r object; do
	cp -r "$plain" "$scratch/bad"
	size=$(stat -c %s "$scratch/bad/$object")
	python3 - "$scratch/bad/$object" $((RANDOM * 32768 % size)) <<-'EOT'
		import sys
		f = open(sys.argv[1], 'r+b')
		f.seek(int(sys.argv[2]))
		b = f.read(1)[0]
		f.seek(int(sys.argv[2]))
		f.write(bytes([b ^ 16]))
	EOT
	expect_fail 1 "" python3 "$top/tests/golden/repo_reader.py" --check "$scratch/bad"
	rm -r "$scratch/bad"
done < <(cd "$plain" && find packs index images gc -type f)

# by a recipient's key, and by a passphrase, which takes a second each time
printf 'correct horse' >"$scratch/pass" && chmod 600 "$scratch/pass"
export AMBRO_REPOSITORY=$scratch/secret
ambroctl repo init --encrypt --chunk-size 64K --passphrase-file "$scratch/pass" --recovery-key "$scratch/key" >/dev/null
key=(--key-file "$scratch/key")
life encrypted
second "$AMBRO_REPOSITORY" >"$scratch/by-key"
key=(--passphrase-file "$scratch/pass")
second "$AMBRO_REPOSITORY" | cmp - "$scratch/by-key" || fail "the passphrase opens something else"
printf 'wrong' >"$scratch/wrong"
refuses() { expect_fail 1 "$1" python3 "$top/tests/golden/repo_reader.py" "${@:2}"; }
refuses "opens no key slot" --passphrase-file "$scratch/wrong" "$AMBRO_REPOSITORY"
refuses "encrypted" "$AMBRO_REPOSITORY"
sed -i 's/"chunk_shift": 16/"chunk_shift": 17/' "$AMBRO_REPOSITORY/format"
refuses "format: it does not have the hash" --key-file "$scratch/key" "$AMBRO_REPOSITORY"
rechecked format
refuses "was changed" --key-file "$scratch/key" "$AMBRO_REPOSITORY"
