#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# verify passes a whole image, and finds a single wrong bit wherever it is put.
. "$(dirname "$0")/../lib/functions.sh"
require jq python3

raw=$scratch/raw img=$scratch/img
seq 1 900000 >"$raw"
truncate -s 20M "$raw"
head -c 3M /dev/urandom >>"$raw"
tool mkimage --chunk-shift 18 "$raw" "$img"
ambroctl verify "$img" 2>/dev/null | finds ': OK, 92 chunks' || fail "a whole image does not pass"
ambroctl verify --json --threads 3 "$img" | jq -e '.ok and .damaged_chunks == 0 and .chunks == 92' >/dev/null || fail "JSON"

size=$(stat -c %s "$img")
flip() {
	cp "$img" "$scratch/bad"
	python3 -c 'import sys
f, at = open(sys.argv[1], "r+b"), int(sys.argv[2])
f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ 16]))' "$scratch/bad" "$1"
}
# the seek table's footer says how long it is; the trailer stands before it
frames=$(od -An -tu4 -j$((size - 9)) -N4 "$img" | tr -d ' ')
trailer=$((size - 17 - 8 * frames - 160))
# in the header, in the middle of a chunk of noise, in the manifest, in the trailer
for at in 50 $((size - 1000000)) $((trailer - 100)) $((trailer + 90)); do
	flip "$at"
	got=0
	ambroctl verify "$scratch/bad" >"$scratch/out" 2>&1 || got=$?
	[[ $got == 3 ]] || fail "exit code $got for a wrong bit at byte $at of $size: $(cat "$scratch/out")"
done
flip $((size - 1000000))
expect_fail 3 "chunks cannot be restored; the first: region 0" ambroctl verify "$scratch/bad"
got=0
ambroctl verify --json "$scratch/bad" >"$scratch/json" 2>/dev/null || got=$?
[[ $got == 3 ]] || fail "exit code $got"
jq -e '(.ok | not) and .damaged_chunks == 1 and .first_offset > 0' "$scratch/json" >/dev/null ||
	fail "$(cat "$scratch/json")"
truncate -s -1 "$scratch/bad"
expect_fail 3 "" ambroctl verify "$scratch/bad"
