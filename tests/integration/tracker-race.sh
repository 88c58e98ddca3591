#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# T3 under fire: writers write all the time while eras are opened and what they name is copied. At the end
# the copy may differ from the disk only where the tracker says so. On a disk with requests (loop) and one
# without (zram), with slow and with expedited grace periods.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
tracker_ready

expedite() { echo "$1" >/sys/kernel/rcu_expedited; }
[[ -w /sys/kernel/rcu_expedited ]] && was=$(cat /sys/kernel/rcu_expedited) && cleanup expedite "$was"
races() {
	local fast
	for fast in 0 1; do
		[[ ! ${was-} ]] || expedite $fast
		say "$2, expedited $fast: $(tracker race "$1" 3)" || fail "T3 does not hold"
	done
	[[ $(tracker doubt "$1") == none ]] || fail "doubt: $(tracker doubt "$1")"
}

truncate -s 256M "$scratch/disk"
loop_make "$scratch/disk"
tracker_new "$loop"
races "$loop" loop
if zram_make 256M; then
	tracker_new "$zram"
	races "$zram" zram
else
	say "note: no zram to be had, so a disk without requests was not tried"
fi
