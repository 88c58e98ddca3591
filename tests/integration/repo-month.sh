#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A month in minutes: two servers cloned from one disk into one repository, a third into an encrypted one by a key of its own; all
# mounted and used, an image of each every day, retention, prune, images deleted in the middle. After each day every image that is left
# restores to what it was on its first day. AMBRO_DAYS says how many (default 5; a month is 30).
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq sfdisk partx e2fsck

days=${AMBRO_DAYS:-5}
hosts=(web1 web2 db1)
declare -A disk=() hashes=()
forgotten=0

# ---- disks and repositories ------------------------------------------------------------------------

# server HOST SIZE SIZE1 SIZE2 FILES: a disk of two partitions, the first with so many MiB of files.
server() {
	disk_make "$scratch/$1" "$2" <<TABLE
label: gpt
size=$3
size=$4
TABLE
	fs_make ext4 "${loop}p1"
	fs_make ext4 "${loop}p2"
	mount_at "${loop}p1" "$scratch/mnt"
	some_files "$scratch/mnt" "$5"
	umount_at "$scratch/mnt"
	disk[$1]=$loop
}
server web1 128M 84M 32M 36
cp --sparse=always "$scratch/web1" "$scratch/web2"
loop_make "$scratch/web2"
disk[web2]=$loop
partitions_add "$loop"
server db1 64M 44M 16M 14

agent_start
repo_make
(
	umask 077
	mkdir "$scratch/credentials"
	ambroctl key generate "$scratch/credentials/ambro-key"
	ambroctl key generate "$scratch/stranger"
) >/dev/null
# of HOST CMD…: with its repository, and the key where there is one
of() {
	if [[ $1 == db1 ]]; then
		AMBRO_REPOSITORY=$scratch/secret CREDENTIALS_DIRECTORY=$scratch/credentials "${@:2}"
	else
		"${@:2}"
	fi
}
of db1 ambroctl repo init --encrypt --key-file "$scratch/credentials/ambro-key" >/dev/null
for host in "${hosts[@]}"; do
	for n in 1 2; do
		mount_at "${disk[$host]}p$n" "$scratch/$host.$n"
	done
done

# ---- what happens on a day -------------------------------------------------------------------------

# day HOST N: what a server does to its files.
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

# image_of HOST N: the day's.
image_of() {
	local before added how
	before=$(of "$1" repo_bytes)
	of "$1" taken "${disk[$1]}" --host "$1" --disk vda --tag "day-$2"
	added=$(($(of "$1" repo_bytes) - before))
	how=$(taken_says .increment)
	say "day $2, $taken: $how, $(taken_says .read) read, $added stored"
	first_look "$taken" "$1"
	if (($2 > 1)); then
		[[ $how == tracked ]] || fail "$taken is $how: $(taken_says .increment_reason)"
		(($(taken_says .read) < 60 << 20)) || fail "an increment read $(taken_says .read) bytes"
	elif [[ $1 == web2 ]]; then
		# the clone costs what differs, and its index
		((added < 12 << 20)) || fail "the second host cost $added bytes"
	fi
}

# first_look NAME HOST: the file systems of the image are whole and hold the files of now.
first_look() {
	of "$2" restored "$1" "$scratch/out"
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

# policy HOST FIRST [options of forget…]: of this host its last two images are kept, and FIRST many of the oldest, and no other.
policy() {
	local had
	had=$(of "$1" names --host "$1")
	{ head -n "$2" <<<"$had" && tail -n 2 <<<"$had"; } | sort -u >"$scratch/keep"
	of "$1" ambroctl forget --host "$1" --keep-last 2 "${@:3}" --yes >/dev/null
	of "$1" names --host "$1" | sort | cmp - "$scratch/keep" || fail "kept of $had: $(of "$1" names --host "$1")"
	forgotten=$((forgotten + $(wc -l <<<"$had") - $(wc -l <"$scratch/keep")))
}

# pruned HOST [options…]: of its repository. Nothing else writes: marks may be swept at once.
pruned() {
	of "$1" ambroctl prune --grace 0 "${@:2}" >"$scratch/prune" 2>&1 || fail "prune for $1: $(cat "$scratch/prune")"
	say "$1: $(tail -n 1 "$scratch/prune")"
}

# kept_all: each image that is listed, and there are some of each host, restores to what it did at first.
kept_all() {
	local host name had
	for host in "${hosts[@]}"; do
		had=$(of "$host" names --host "$host")
		[[ $had ]] || fail "$host has no image"
		for name in $had; do
			of "$host" restored "$name" "$scratch/out"
			[[ $(hash_of "$scratch/out") == "${hashes[$name]}" ]] || fail "$name restores to something else"
		done
	done
}
# checked [options of check…]: both repositories are well.
checked() {
	for host in web1 db1; do
		of "$host" ambroctl repo check "$@" >"$scratch/check" 2>&1 || fail "check for $host: $(cat "$scratch/check")"
	done
}

for ((n = 1; n <= days; n++)); do
	for host in "${hosts[@]}"; do
		day "$host" "$n"
		image_of "$host" "$n"
	done
	# one from the middle
	((n != 4)) || ambroctl forget "$(names --host web2 | sed -n 3p)" --yes >/dev/null
	if ((n % 2 == 0)); then
		policy web1 1 --keep-tag day-1
		policy db1 0
		pruned web1
		pruned db1
	fi
	kept_all
	checked
	# names have seconds
	sleep 1
done
((days < 4 || forgotten >= 3)) || fail "the policies took $forgotten images only"
checked --read-data
all=$(repo_bytes)
say "$(names | wc -l) images in $all bytes; and $(of db1 names | wc -l) in $(of db1 repo_bytes) bytes"

# ---- what only forgotten images needed is given back -----------------------------------------------

for host in web1 db1; do
	of "$host" ambroctl forget --keep-last 1 --yes >/dev/null
	pruned "$host" --repack-dead 5
done
kept_all
left=$(repo_bytes)
say "$(names | wc -l) images in $left bytes"
((left < all - 2000000)) || fail "nothing was given back"

# ---- what is encrypted -----------------------------------------------------------------------------

# one more image comes there from the other repository
newest=$(names --host web1 | tail -n 1)
ambroctl export "$newest" "$scratch/moved.zst" -q
of db1 ambroctl import "$scratch/moved.zst" --host web1 --disk vda -q
of db1 restored web1/vda/latest "$scratch/out"
[[ $(hash_of "$scratch/out") == "${hashes[$newest]}" ]] || fail "the encrypted copy is another"

# it opens by its own key only
expect_fail 7 "key" ambroctl list --repo "$scratch/secret" </dev/null
expect_fail 7 "no slot for this key" ambroctl list --repo "$scratch/secret" --key-file "$scratch/stranger" </dev/null
# holds DIR FILE: an object has these bytes of FILE as they are: they are random, so that compression leaves them alone.
holds() {
	python3 - "$1" "$2" <<'PYTHON'
import pathlib, sys
piece = pathlib.Path(sys.argv[2]).read_bytes()[100000:100032]
sys.exit(not any(piece in f.read_bytes() for f in pathlib.Path(sys.argv[1]).rglob('*') if f.is_file()))
PYTHON
}
holds "$AMBRO_REPOSITORY" "$scratch/web1.1/log.$((days % 5))" || fail "what is not encrypted is not found: this proves nothing"
for host in web1 db1; do
	! holds "$scratch/secret" "$scratch/$host.1/log.$((days % 5))" || fail "the content of $host can be read"
done
