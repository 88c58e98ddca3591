#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fuzz.sh [NAME…] - libFuzzer over these targets (all of them), one after the other, FUZZ_SECONDS (60) each.
#
# O names the object directory that `make B=fuzz CC=clang fuzz-targets` filled. Inputs that reach something new are
# kept in $O/corpus/NAME for the next time; one that breaks something is in $O/findings, and the exit code is 1.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build/fuzz}
seconds=${FUZZ_SECONDS:-60}
mkdir -p "$O/findings"
failed=0

# Inputs of some KiB: what needs more than that much memory or time for them believes a number it should not.
fuzz() {
	local name=$1 corpus=$O/corpus/$1 log=$O/findings/$1.log longest
	mkdir -p "$corpus"
	# a seed that is longer than that would be cut
	longest=$(stat -c %s "tests/fuzz/corpus/$name"/* | sort -n | tail -n 1)
	if ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS:-} "$O/tests/fuzz/fuzz-$name" -max_total_time="$seconds" \
		-timeout=20 -malloc_limit_mb=512 -rss_limit_mb=2048 -max_len="${FUZZ_MAX_LEN:-$((longest > 40000 ? longest : 40000))}" \
		-print_final_stats=1 -artifact_prefix="$O/findings/$name-" \
		"$corpus" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
		printf '  ok    %-10s %s\n' "$name" "$(sed -n 's/^Done \(.*\)/\1/p' "$log")"
	else
		printf '  FAIL  %-10s %s\n' "$name" "$(grep -m 1 -E 'ERROR|SUMMARY|not so' "$log")"
		tail -n 30 "$log" | sed 's/^/        | /'
		failed=1
	fi
}

if (($#)); then
	for name; do fuzz "$name"; done
else
	for target in tests/fuzz/fuzz-*.c; do
		fuzz "$(basename "$target" .c | cut -c 6-)"
	done
fi
exit "$failed"
