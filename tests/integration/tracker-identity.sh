#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Another medium under the same device number is another disk: its pin is refused and made anew. A disk
# that changes under a running tracker raises doubt, and the doubt stays.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
tracker_ready

truncate -s 64M "$scratch/a"
truncate -s 64M "$scratch/b"
loop_make "$scratch/a"
tracker_new "$loop"
[[ $(tracker doubt "$loop") == none ]] || fail "doubt on a fresh disk: $(tracker doubt "$loop")"
dd if=/dev/urandom of="$loop" bs=1M count=1 oflag=direct conv=nocreat status=none
[[ $(tracker scan "$loop" 1) ]] || fail "no marks"

losetup -d "$loop"
wait_for 5 no_medium "$loop" || fail "$loop is busy"
losetup "$loop" "$scratch/b"
[[ $(tracker open "$loop") == new ]] || fail "the other file's pin was taken up"
[[ ! $(tracker scan "$loop" 1) ]] || fail "the other file's marks were kept"

# a larger disk under a tracker that is held
coproc held { tracker hold "$loop"; }
exec {answer}<&"${held[0]}" {question}>&"${held[1]}" # bash forgets its own as soon as that one ends
read -r word <&"$answer"
[[ $word == holding ]] || fail "not holding"
truncate -s 80M "$scratch/b"
losetup -c "$loop"
echo >&"$question"
read -r word <&"$answer"
[[ $word == *"its size changed"* ]] || fail "resized, but: $word"
truncate -s 64M "$scratch/b"
losetup -c "$loop"
[[ $(tracker open "$loop") == resumed ]] || fail "the pin is gone"
[[ $(tracker doubt "$loop") == *"its size changed"* ]] || fail "the doubt went away"
tracker remove "$loop"
[[ $(tracker doubt "$loop") == none ]] || fail "doubt after being made anew"
