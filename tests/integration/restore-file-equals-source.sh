#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A restore to a file gives the source byte for byte: a new file with holes, and one that held something else.
# Sizes and regions are as awkward as they come.
. "$(dirname "$0")/../lib/functions.sh"
require jq

raw=$scratch/raw img=$scratch/img out=$scratch/out
# 40 MiB and a bit; data, holes, and a tail that is no multiple of a sector
head -c $((6 << 20)) /dev/urandom >"$raw"
truncate -s 30M "$raw"
{
	seq 1 1200000
	head -c $((3 * (1 << 20) + 123)) /dev/urandom
	printf end
} >>"$raw"

for options in '' '--chunk-shift 16' '--chunk-shift 22' '--sparse' \
	'--regions 32256,1000448,5242880,7340544 --chunk-shift 17'; do
	for threads in 1 3; do
		# shellcheck disable=SC2086
		tool mkimage $options "$raw" "$img"
		rm -f "$out"
		ambroctl restore --threads $threads "$img" "$out" 2>/dev/null >"$scratch/said"
		cmp "$raw" "$out" >&2 || fail "a new file differs ($options)"
		grep -q "restored" "$scratch/said"
		# now it is full of other bytes, and longer
		head -c $(($(stat -c %s "$raw") + 5000000)) /dev/urandom >"$out"
		expect_fail 6 --yes ambroctl restore "$img" "$out"
		ambroctl restore --threads $threads --yes --verify --json "$img" "$out" >"$scratch/json" 2>/dev/null
		same "$raw" "$out"
		jq -e '.ok and .verified and (.table_moved | not) and .written > 0 and .damaged == []' \
			"$scratch/json" >/dev/null || fail "JSON: $(cat "$scratch/json")"
	done
done
(($(stat -c %b "$out") * 512 < $(stat -c %s "$out"))) || fail "the file has no holes"
