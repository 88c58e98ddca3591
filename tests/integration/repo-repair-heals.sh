#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A pack rots; after a repair the next capture stores again what was lost, builds on no image that lacks something, and restores
# exactly; once only whole images are left, prune takes the note of the repair away and increments are increments again.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq mke2fs

mkdir "$scratch/files"
some_files "$scratch/files" 20
mke2fs -qF -t ext4 -d "$scratch/files" "$scratch/disk" 32M
repo_make --chunk-size 64K
agent_start
taken "$scratch/disk" --disk vda
first=$taken
restored latest "$scratch/truth"
sleep 1

pack=$(find "$AMBRO_REPOSITORY/packs" -type f -size +2M | sort | head -n 1)
chmod u+w "$pack"
printf 'rotten to the core' | dd of="$pack" bs=1 seek=1000000 conv=notrunc status=none
expect_fail 3 "damaged" ambroctl repo check --read-data
expect_fail 3 "" ambroctl verify "$first"
ambroctl repo repair >/dev/null || (($? == 3)) || fail "repair"

taken "$scratch/disk" --disk vda
[[ $(taken_says .increment) == full ]] || fail "built on an image that lacks something: $(taken_says .increment)"
(($(taken_says .new_chunks) < 40)) || fail "$(taken_says .new_chunks) chunks were sent for one that rotted"
restored latest "$scratch/out"
cmp "$scratch/out" "$scratch/truth" || fail "another disk"
# and what the old one lacked is there again
restored "$first" "$scratch/out"
cmp "$scratch/out" "$scratch/truth" || fail "the old image does not restore"

sleep 1
taken "$scratch/disk" --disk vda
[[ $(taken_says .increment) == compared ]] || fail "a whole parent is not taken: $(taken_says .increment)"
ls "$AMBRO_REPOSITORY"/gc/lossy-* >/dev/null || fail "no note of the repair"
ambroctl prune >/dev/null
! ls "$AMBRO_REPOSITORY"/gc/lossy-* 2>/dev/null || fail "the note stays"

# killed_behind_its_note COMMAND…: the first object that it puts.
killed_behind_its_note() {
	local link status=0
	AMBRO_TEST_STORE_STEP=count:$scratch/steps "$@" &>/dev/null
	link=$(grep -n '^link$' "$scratch/steps" | sed -n '1s/:.*//p')
	{ AMBRO_TEST_STORE_STEP=kill:$((link + 1)) "$@" &>/dev/null; } 2>/dev/null || status=$?
	((status == 137)) || fail "$* was not killed: $status"
}

# one that was killed keeps prunes away, until it is done again by who knows that none is at work
killed_behind_its_note ambroctl repo repair
expect_fail 6 "a repair is at work" ambroctl prune
ambroctl repo repair >/dev/null
expect_fail 6 "a repair is at work" ambroctl prune
ambroctl repo repair --alone >/dev/null
ambroctl prune >/dev/null
# and the other way round
killed_behind_its_note ambroctl prune
ambroctl prune >/dev/null
ls "$AMBRO_REPOSITORY"/gc/prune-* >/dev/null || fail "no note of the prune"
expect_fail 6 "a prune is at work" ambroctl repo repair
ambroctl repo repair --alone >/dev/null
restored "$first" "$scratch/out"
cmp "$scratch/out" "$scratch/truth" || fail "the old image does not restore any more"
