#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A month in minutes: two servers cloned from one disk, mounted and used, an image of each every day, retention, prune, images
# deleted in the middle. After each day every image that is left restores to what it was on its first day. AMBRO_DAYS says how many
# (default 5; a month is 30).
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq sfdisk partx e2fsck

days=${AMBRO_DAYS:-5}
declare -A disk=() hashes=()

# one disk, and a clone of it
disk_make "$scratch/web1" 160M <<'TABLE'
label: gpt
size=100M
size=40M
TABLE
fs_make ext4 "${loop}p1"
fs_make ext4 "${loop}p2"
mount_at "${loop}p1" "$scratch/mnt"
some_files "$scratch/mnt" 50
umount_at "$scratch/mnt"
disk[web1]=$loop
cp --sparse=always "$scratch/web1" "$scratch/web2"
loop_make "$scratch/web2"
disk[web2]=$loop
partitions_add "$loop"

agent_start
repo_make
for host in web1 web2; do
	for n in 1 2; do
		mount_at "${disk[$host]}p$n" "$scratch/$host.$n"
	done
done

# day HOST N: what a server does to its files in a day.
day() {
	local dir=$scratch/$1.1
	head -c $((300000 + RANDOM)) /dev/urandom >"$dir/log.$(($2 % 5))"
	printf 'day %d of %s\n' "$2" "$1" >"$dir/today"
	find "$dir/usr" -type f | sort | awk -v n="$2" 'NR % 23 == n % 23 && ++k <= 4' | while IFS= read -r f; do
		head -c $((RANDOM * 3)) /dev/urandom >"$f"
	done
	(($2 % 3)) || { find "$dir/usr" -type f | sort | sed -n "$2p" | xargs -r rm; }
	head -c 200000 /dev/urandom >"$scratch/$1.2/spool.$(($2 % 3))"
	(($2 % 4)) || fstrim "$dir" 2>/dev/null || :
	sync -f "$dir" && sync -f "$scratch/$1.2"
}

# kept_all: each image that is listed restores to what it did at first.
kept_all() {
	local name
	for name in $(names); do
		restored "$name" "$scratch/out"
		[[ $(hash_of "$scratch/out") == "${hashes[$name]}" ]] || fail "$name restores to something else"
	done
}

# first_look NAME HOST: the file systems of the image are whole and hold the files of now.
first_look() {
	restored "$1" "$scratch/out"
	hashes[$1]=$(hash_of "$scratch/out")
	loop_make "$scratch/out"
	local view=$loop n
	partitions_add "$view"
	for n in 1 2; do
		# the journal of a live file system is replayed by the first mount
		mount_at "${view}p$n" "$scratch/look"
		sums "$scratch/look" >"$scratch/sums.image"
		sums "$scratch/$2.$n" >"$scratch/sums.now"
		cmp "$scratch/sums.image" "$scratch/sums.now" || fail "$1, partition $n: other files"
		umount_at "$scratch/look"
		e2fsck -fn "${view}p$n" >"$scratch/fsck" 2>&1 || fail "$1, partition $n: $(cat "$scratch/fsck")"
	done
	_loop_free "$view" || :
}

for ((n = 1; n <= days; n++)); do
	for host in web1 web2; do
		day "$host" "$n"
		before=$(repo_bytes)
		taken "${disk[$host]}" --host "$host" --disk vda --tag "day-$n"
		added=$(($(repo_bytes) - before))
		how=$(taken_says .increment)
		say "day $n, $taken: $how, $(taken_says .read) read, $added stored"
		first_look "$taken" "$host"
		if ((n > 1)); then
			[[ $how == tracked ]] || fail "$taken is $how: $(taken_says .increment_reason)"
			(($(taken_says .read) < 60 << 20)) || fail "an increment read $(taken_says .read) bytes"
		elif [[ $host == web2 ]]; then
			# the clone costs what differs, and its index
			((added < 12 << 20)) || fail "the second host cost $added bytes"
		fi
		# names have seconds
		sleep 1
	done
	((n % 3)) || ambroctl forget --host web1 --keep-last 3 --keep-tag day-1 --yes >/dev/null
	# one from the middle
	((n != 4)) || ambroctl forget "$(names --host web2 | sed -n 3p)" --yes >/dev/null
	if ((n % 2 == 0)); then
		# nothing else writes: marks may be swept at once
		ambroctl prune --grace 0 >"$scratch/prune" 2>&1 || fail "prune: $(cat "$scratch/prune")"
		say "$(tail -n 1 "$scratch/prune")"
	fi
	kept_all
	ambroctl repo check >"$scratch/check" 2>&1 || fail "check: $(cat "$scratch/check")"
done
ambroctl repo check --read-data >"$scratch/check" 2>&1 || fail "check: $(cat "$scratch/check")"
all=$(repo_bytes)
say "$(names | wc -l) images in $all bytes"

# what only forgotten images needed is given back
ambroctl forget --keep-last 1 --yes >/dev/null
ambroctl prune --grace 0 --repack-dead 5 >/dev/null
kept_all
left=$(repo_bytes)
say "$(names | wc -l) images in $left bytes"
((left < all - 2000000)) || fail "nothing was given back"

# one more place, encrypted: the same images, nothing of it readable without the key
printf 'correct horse' >"$scratch/pass" && chmod 600 "$scratch/pass"
newest=$(names --host web1 | tail -n 1)
ambroctl export "$newest" "$scratch/moved.zst" -q
export AMBRO_REPOSITORY=$scratch/secret
ambroctl repo init --encrypt --passphrase-file "$scratch/pass" >/dev/null
ambroctl import "$scratch/moved.zst" --host web1 --disk vda --passphrase-file "$scratch/pass" -q
expect_fail any "key" ambroctl list </dev/null
rm -f "$scratch/out"
ambroctl restore --yes latest "$scratch/out" --passphrase-file "$scratch/pass" >/dev/null
[[ $(hash_of "$scratch/out") == "${hashes[$newest]}" ]] || fail "the encrypted copy is another"
! grep -rqa "day $days of web1" "$AMBRO_REPOSITORY" || fail "the content can be read"
