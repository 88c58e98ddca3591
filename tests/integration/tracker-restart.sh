#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tracking needs no process: what is written while none runs is seen by the next one. Removing it leaves
# nothing behind, and a half-made pin is made anew.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
tracker_ready

truncate -s 64M "$scratch/disk"
loop_make "$scratch/disk"
tracker_new "$loop"
pins=/sys/fs/bpf/ambro/$(lsblk -dnro MAJ:MIN "$loop")
put() { dd if=/dev/urandom of="$loop" bs=4k count=1 seek="$1" oflag=direct conv=nocreat status=none; }

era=$(tracker era "$loop")
put 6400
[[ $(tracker open "$loop") == resumed ]] || fail "the pin was not taken up"
[[ $(tracker scan "$loop" "$era") == "$((25 << 20)) $((128 << 10))" ]] || fail "the write was not seen"

tracker remove "$loop"
[[ ! -e $pins ]] || fail "still there: $(ls "$pins")"
tracker remove "$loop"

for missing in control link-bio-queue link-rq-complete eras stamps report; do
	[[ $(tracker open "$loop") == new ]] || fail "there was a pin"
	put 1
	rm "$pins/$missing"
	[[ $(tracker open "$loop") == new ]] || fail "taken up without $missing"
	[[ ! $(tracker scan "$loop" 1) ]] || fail "marks survived"
	put 1
	[[ $(tracker scan "$loop" 1) ]] || fail "not tracked after being made anew without $missing"
	tracker remove "$loop"
done

# a stamp is of one era, known to whoever comes, and to no tracker that comes after, until 4096 others were made
tracker open "$loop" >/dev/null
stamp=$(tracker stamp "$loop" 7 1)
[[ $(tracker stamped "$loop" 7 "$stamp") == known ]] || fail "its stamp is not known"
[[ $(tracker stamped "$loop" 8 "$stamp") == unknown ]] || fail "the stamp of another era"
other=$(tracker stamp "$loop" 7 1)
[[ $other != "$stamp" ]] || fail "two stamps are alike"
[[ $(tracker stamped "$loop" 7 "$stamp")$(tracker stamped "$loop" 7 "$other") == knownknown ]] || fail "one was lost"
[[ $(tracker stamped "$loop" 0 00000000000000000000000000000000) == unknown ]] || fail "an empty place is a stamp"
tracker save "$loop" "$scratch/memory"
late=$(tracker stamp "$loop" 9 1)
tracker load "$loop" "$scratch/memory"
[[ $(tracker stamped "$loop" 7 "$other") == known ]] || fail "the memory was not taken back"
[[ $(tracker stamped "$loop" 9 "$late") == unknown ]] || fail "a stamp of a time that was taken back"
[[ $(tracker stamp "$loop" 9 1) != "$late" ]] || fail "the same stamp again"
tracker stamp "$loop" 5 4094 >/dev/null
[[ $(tracker stamped "$loop" 7 "$stamp")$(tracker stamped "$loop" 7 "$other") == unknownknown ]] ||
	fail "not the oldest one was forgotten"
tracker remove "$loop"
[[ $(tracker stamped "$loop" 7 "$other") == unknown ]] || fail "the stamp of another tracker"
tracker remove "$loop"

# many at once: one makes it, the others take it up
for _ in 1 2 3 4 5 6; do
	tracker open "$loop" &
done >"$scratch/opened"
wait
[[ $(sort "$scratch/opened" | uniq -c | tr -s ' \n' ' ') == " 1 new 5 resumed " ]] ||
	fail "$(sort "$scratch/opened" | uniq -c)"
