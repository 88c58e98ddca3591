#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A bit of a repository is wrong, in any object, or an object is not the one it should be, or is gone. `repo check --read-data` names it,
# and a restore gives what was captured or fails; never anything else.
#
# By default four bits of each object: at its start, in the middle, at its end, anywhere. AMBRO_ALL_BITS=1: a bit of each byte (hours).
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq python3
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077

seed=${SEED:-$((EPOCHSECONDS * 1000 + RANDOM))}
RANDOM=$((seed % 32768))
say "seed $seed (SEED=$seed repeats it)"
declare -A hash_of_disk=()

import() { ambroctl import -q --host h --disk "$1" "$scratch/$1.ambro"; }
objects() { (cd "$AMBRO_REPOSITORY" && find . -type f -printf '%P\n' | sort); }
pristine() { AMBRO_REPOSITORY=$scratch/$1; }
# flip OBJECT OFFSET MASK
flip() {
	python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b ^ int(sys.argv[3])]))' \
		"$AMBRO_REPOSITORY/$1" "$2" "$3"
}

# restored_right WHAT: each image of before restores to what it was, or fails with exit code 3 (1 or 7 where $other_codes; it is not
# listed then, or its key is gone). $hurt: how many failed.
hurt=0
restored_right() {
	local disk status hash
	hurt=0
	for hash in "${!hash_of_disk[@]}"; do
		status=0
		rm -f "$scratch/out"
		ambroctl restore --yes "$hash" "$scratch/out" &>"$scratch/restore" || status=$?
		if ((status == 0)); then
			[[ $(hash_of "$scratch/out") == "${hash_of_disk[$hash]}" ]] || fail "$1: a restore gives other bytes"
		else
			((++hurt))
			[[ " 3 ${2:-} " == *" $status "* ]] ||
				fail "$1: restore ended with $status: $(cat "$scratch/restore")"
			one_line "$scratch/restore"
		fi
	done
}

# noticed WHAT OBJECT [CODES]: check names it, and restores are right.
noticed() {
	local status=0
	ambroctl repo check --read-data --json >"$scratch/check" 2>"$scratch/check.err" || status=$?
	[[ " ${3:-3} " == *" $status "* ]] || fail "$1: check ended with $status: $(cat "$scratch/check" "$scratch/check.err")"
	grep -qF -- "$2" "$scratch/check" "$scratch/check.err" || fail "$1: not named: $(cat "$scratch/check" "$scratch/check.err")"
	restored_right "$1" "${4:-}"
}
