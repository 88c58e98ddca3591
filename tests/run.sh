#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh TIER… - run the tests of these tiers: style, unit, fuzz, integration.
#
# O names the object directory (build/rel), TESTS=GLOB picks tests by name (@(a|b) works), TEST_SECONDS=N is what each
# may take. One line per test on the way; the last line is always "N passed, N failed, N skipped". Logs are in $O/logs.

set -uo pipefail
shopt -s extglob
cd "$(dirname "$0")/.." || exit 1
export O=${O:-build/rel}
export LC_ALL=C
logs=$O/logs
mkdir -p "$logs"
# shellcheck source=tests/lib/sanitizer.sh
. tests/lib/sanitizer.sh
# seconds that a test may take before it counts as hanging
limit=300
sanitizer_build "$O/ambrod" && limit=900
limit=${TEST_SECONDS:-$limit}
sanitizer_fix_addresses "$O/ambrod" tests/run.sh "$@"
passed=0 failed=0 skipped=0

selected() {
	# shellcheck disable=SC2254 # it is a pattern
	case $1 in ${TESTS:-*}) return 0 ;; esac
	return 1
}

# report WORD NAME [SECONDS] [REASON]
report() { printf '  %-4s  %-44s %6s%s\n' "$1" "$2" "${3:+${3}s}" "${4:+  $4}"; }

# seconds_since MICROSECONDS: with one decimal.
seconds_since() {
	local us=$((${EPOCHREALTIME/./} - $1))
	printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

show_tail() {
	tail -n 40 "$1" | sed 's/^/        | /'
}

# watched CMD…: its status; 1 if a sanitizer reported anything.
watched() {
	local status=0
	sanitizer_begin
	"$@" || status=$?
	sanitizer_end || status=1
	return "$status"
}

# run NAME CMD…: one program that is one test.
run() {
	local name=$1 log=$logs/$1.log began=${EPOCHREALTIME/./} status=0
	shift
	selected "$name" || return 0
	watched "$@" >"$log" 2>&1 </dev/null || status=$?
	local took
	took=$(seconds_since "$began")
	case $status in
	0) report ok "$name" "$took" && passed=$((passed + 1)) ;;
	77)
		report skip "$name" "$took" "$(grep '^skipped: ' "$log" | tail -n 1 | cut -c 10-)"
		skipped=$((skipped + 1))
		;;
	*)
		report FAIL "$name" "$took" "$( ((status == 124 || status == 137)) && echo 'timed out')"
		show_tail "$log"
		failed=$((failed + 1))
		;;
	esac
}

# run_cmocka PROGRAM: its tests are counted one by one.
run_cmocka() {
	local name log began=${EPOCHREALTIME/./} status=0 p f s took
	name=$(basename "$1") log=$logs/$(basename "$1").log
	selected "$name" || return 0
	watched timeout -k 20 "$limit" "$1" >"$log" 2>&1 </dev/null || status=$?
	p=$(count_of PASSED "$log") f=$(count_of FAILED "$log") s=$(count_of SKIPPED "$log")
	((status == 77 && p + f + s == 0)) && s=1
	((status != 0 && status != 77 && f == 0)) && f=1
	((status == 0 && p + f + s == 0)) && p=1
	took=$(seconds_since "$began")
	if ((f > 0)); then
		report FAIL "$name" "$took" "$p of $((p + f + s))" && show_tail "$log"
	elif ((p > 0)); then
		report ok "$name" "$took" "$p tests"
	else
		report skip "$name" "$took" "$(grep '^skipped: ' "$log" | tail -n 1 | cut -c 10-)"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
# CMocka closes with "[  PASSED  ] 12 test(s).", once for each group.
count_of() {
	sed -n "s/^\[  *$1  *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'
}

tier_style() {
	local check
	for check in layers format shell tidy man; do
		run "style-$check" timeout -k 20 1800 tests/check/style.sh "$check"
	done
}

# beside CMD…: run as one of as many as there are CPUs. What it prints comes in one piece when it ends, what it counts
# when all have ended.
beside() {
	local out
	while (($(jobs -rp | wc -l) >= $(nproc))); do
		wait -n || :
	done
	launched=$((launched + 1))
	# shellcheck disable=SC2030 # its own, on purpose
	{
		passed=0 failed=0 skipped=0
		out=$("$@" && echo "$passed $failed $skipped" >"$counts/$launched")
		[[ ! $out ]] || printf '%s\n' "$out"
	} &
}

# together FUNCTION: one that calls beside. A test that ended without a word has failed.
together() {
	local launched=0 counts i p f s
	counts=$(mktemp -d)
	"$1"
	wait
	for ((i = 1; i <= launched; i++)); do
		read -r p f s 2>/dev/null <"$counts/$i" || p=0 f=1 s=0
		# shellcheck disable=SC2031 # nor lost
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done
	rm -rf "$counts"
}

unit_tests() {
	local t
	for t in "$O"/tests/unit/test-*; do
		[[ -f $t && -x $t && $t != *.* ]] && beside run_cmocka "$t"
	done
}
fuzz_tests() {
	local t corpus
	for t in "$O"/tests/fuzz/fuzz-*; do
		[[ -f $t && -x $t && $t != *.* ]] || continue
		corpus=tests/fuzz/corpus/$(basename "$t" | cut -c 6-)
		[[ -d $corpus ]] && beside run "$(basename "$t")" timeout -k 20 "$limit" "$t" "$corpus"
	done
}
# Those that ask for no privilege share no disk, mount or tracker with anybody.
unprivileged_tests() {
	local t tests
	mapfile -t tests < <(grep -L '^require_root' tests/integration/*.sh)
	for t in "${tests[@]}"; do
		beside run "$(basename "$t" .sh)" timeout -k 20 "$limit" bash "$t"
	done
}

tier_unit() { together unit_tests; }
tier_fuzz() { together fuzz_tests; }
tier_integration() {
	local t tests
	together unprivileged_tests
	mapfile -t tests < <(grep -l '^require_root' tests/integration/*.sh)
	for t in "${tests[@]}"; do
		run "$(basename "$t" .sh)" timeout -k 20 "$limit" bash "$t"
	done
}

for tier; do
	case $tier in
	style | unit | fuzz | integration) ;;
	*) echo "run.sh: no tier $tier" >&2 && exit 2 ;;
	esac
	printf '%s\n' "$tier"
	"tier_$tier"
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
