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
