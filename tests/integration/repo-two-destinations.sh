#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Two repositories, each with a rhythm of its own: both get true increments, and what one has is nothing to the other.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq

truncate -s 120M "$scratch/disk"
loop_make "$scratch/disk"
disk=$loop
fs_make ext4 "$disk"
mount_at "$disk" "$scratch/mnt"
some_files "$scratch/mnt" 30
agent_start
for place in daily weekly; do
	ambroctl repo init --repo "$scratch/$place" >/dev/null
done

# to PLACE KIND: an image there, of that kind, with the files of now.
to() {
	taken "$disk" --repo "$scratch/$1" --disk vda
	say "$taken: $(taken_says .increment), $(taken_says .read) read"
	[[ $(taken_says .increment) == "$2" ]] || fail "$taken is not $2 but $(taken_says .increment)"
	AMBRO_REPOSITORY=$scratch/$1 restored latest "$scratch/out"
	sync -f "$scratch/mnt"
	sums "$scratch/mnt" >"$scratch/now"
	mount_at "$scratch/out" "$scratch/look" -o loop
	sums "$scratch/look" | cmp - "$scratch/now" || fail "$taken has other files"
	umount_at "$scratch/look"
}
# change N: a file of its own and one that always changes
change() {
	head -c 2000000 /dev/urandom >"$scratch/mnt/of.$1"
	head -c 100000 /dev/urandom >"$scratch/mnt/always"
	sync -f "$scratch/mnt"
}

to daily full
to weekly full
for n in 1 2 3; do
	change "$n"
	to daily tracked
	daily=$(taken_says .read)
	sleep 1
done
change 4
to weekly tracked
# a week's changes, though the other place has seen them already: three files more, but for what shares a granule
(($(taken_says .read) >= daily + 4000000)) || fail "the weekly increment read $(taken_says .read), the daily ones $daily"
sleep 1
to daily tracked

# an older image deleted, or the newest: the next increment is on what is left, and as right
AMBRO_REPOSITORY=$scratch/daily ambroctl forget "$(AMBRO_REPOSITORY=$scratch/daily names | tail -n 1)" --yes >/dev/null
change 5
sleep 1
to daily tracked

# asked for: everything
taken "$disk" --repo "$scratch/daily" --disk vda --full
[[ $(taken_says .increment) == full ]] || fail "--full made $(taken_says .increment)"
(($(taken_says .new_bytes) < 2000000)) || fail "a full capture of what is known added $(taken_says .new_bytes)"
