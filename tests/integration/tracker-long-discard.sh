#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A discard of a TiB of a 16 TiB disk is marked to its last granule, and asking stays quick.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/tracker.sh"
require_root
require blkdiscard
tracker_ready

truncate -s 16T "$scratch/disk" 2>/dev/null || skip "no sparse file of 16 TiB in $scratch"
loop_make "$scratch/disk"
tracker_new "$loop"
tracker bench "$loop"
era=$(tracker era "$loop")
blkdiscard -o 3T -l 1T "$loop"
want="$((3 << 40)) $((1 << 40))"
[[ $(tracker scan "$loop" "$era") == "$want" ]] || fail "$(tracker scan "$loop" "$era")"
[[ $(tracker doubt "$loop") == none ]] || fail "doubt: $(tracker doubt "$loop")"
