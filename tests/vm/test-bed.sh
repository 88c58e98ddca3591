#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# test-bed.sh [VERSION] - the bed itself, on the host: a test that should fail does, for the reason it should.

set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kernel=${1:-6.1}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

# expect STATUS TEXT RUN_ARG…: run ends with that status and says TEXT.
expect() {
	local want=$1 text=$2 got=0 began=$SECONDS word=ok
	shift 2
	"$here/run" --kernel "$kernel" "$@" >"$out" 2>&1 </dev/null || got=$?
	[[ $got == "$want" && $(<"$out") == *"$text"* ]] || word=FAIL
	printf '  %-4s  %-40s %4ss\n' "$word" "$*" "$((SECONDS - began))"
	[[ $word == ok ]] && return
	printf '        | exit code %s, wanted %s and "%s"\n' "$got" "$want" "$text"
	sed 's/^/        | /' "$out"
	failed=1
}

expect 3 "" bed-fails exit
expect 77 "skipped: not today" bed-fails skip
expect 0 "" bed-fails expected
expect 1 "WARNING: a fake one" bed-fails warning
expect 1 "Call Trace:" bed-fails trace
expect 1 "sysrq triggered crash" bed-fails panic
expect 1 "this was said before" --timeout 30 bed-fails timeout
expect 4 "" bed-fails frozen
expect 1 "the guest does not boot" --append rdinit=/none bed-fails exit
expect 2 "there is no light/none.sh" none
((failed == 0))
