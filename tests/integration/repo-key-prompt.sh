#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A passphrase is asked for without echo, twice when it is new, and the terminal is as before whatever ends the question.
. "$(dirname "$0")/../lib/functions.sh"
require python3
[[ -x $O/ambroctl ]] || skip "$O/ambroctl is not built"
export AMBRO_REPOSITORY=$scratch/repo

# on_terminal EXIT-CODE ARGUMENT-COUNT-OF-AMBROCTL ARGUMENT… STEP…
asked() {
	local want=$1 got=0
	local -a command=("${@:3:$2}")
	shift $((2 + $2))
	"$top/tests/lib/terminal.py" "$@" -- "$O/ambroctl" "${command[@]}" >"$scratch/said" || got=$?
	[[ $got == "$want" ]] || fail "exit code $got, expected $want: $(cat "$scratch/said")"
	! grep -F horse "$scratch/said" || fail "the passphrase was shown"
}
again="want:The same again: "

asked 1 3 repo init --encrypt "want:New passphrase: " secret type:horse1 "$again" secret type:horse2 want:differ
asked 1 3 repo init --encrypt "want:New passphrase: " secret type: want:empty
[[ ! -e $scratch/repo/format ]] || fail "a repository was made all the same"
asked 0 3 repo init --encrypt "want:New passphrase: " secret type:horse "$again" secret type:horse
question="want:Passphrase of the repository: "
asked 0 2 repo info "$question" secret type:horse want:Encryption
asked 0 2 repo info "$question" secret type:horses "want:Not that one" secret type:horse want:Encryption
asked 7 2 repo info "$question" secret type:horses "want:Not" secret type:horses "want:Not" secret type:horses want:wrong
asked 0 2 key change "$question" secret type:horse "want:New passphrase: " secret type:horse4 "$again" secret type:horse4

# Ctrl-C, a signal from outside, end of input, Ctrl-Z and back
asked 130 2 repo info "$question" secret key:3
asked 143 2 repo info "$question" secret signal:SIGTERM
asked 1 2 repo info "$question" secret key:4 want:cannot
asked 0 2 repo info "$question" secret key:26 stopped "$question" secret type:horse4 want:Encryption
