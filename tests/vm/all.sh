#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# all.sh - every test of the light guest on every kernel. KERNELS="6.1 6.12", TESTS=GLOB (@(a|b) works), or of one
# kernel TESTS_6_1=GLOB, TESTS_6_12=GLOB; JOBS=1 guests at once, of whichever kernel; DEBUG=1: with the kernel's memory
# checks. One line a test on the way; the last line is always "N passed, N failed, N skipped". Logs are in
# build/vm/results.

set -uo pipefail
shopt -s extglob
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.." || exit 1
export LC_ALL=C O=${O:-build/rel}
results=build/vm/results
mkdir -p "$results"
tally=$(mktemp)
trap 'rm -f "$tally"' EXIT

# selected NAME KERNEL
selected() {
	local own=TESTS_${2//./_}
	# shellcheck disable=SC2254 # it is a pattern
	case $1 in ${!own:-${TESTS:-*}}) return 0 ;; esac
	return 1
}

# one NAME KERNEL CMD…: run it, and say how it went.
one() {
	local name=$1 kernel=$2 began=$SECONDS status=0 log word reason=''
	log=$results/$name-$kernel.log
	shift 2
	"$@" >"$log" 2>&1 </dev/null || status=$?
	case $status in
	0) word=ok ;;
	77) word=skip && reason=$(sed -n 's/^skipped: //p' "$log" | tail -n 1) ;;
	*) word=FAIL && reason=$'\n'$(tail -n 60 "$log" | sed 's/^/        | /') ;;
	esac
	echo "$word" >>"$tally"
	printf '  %-4s  %-44s %6s%s\n' "$word" "$name [$kernel]" "$((SECONDS - began))s" "${reason:+  $reason}"
}

# start NAME KERNEL CMD…: as soon as there is room for it.
start() {
	while (($(jobs -rp | wc -l) >= ${JOBS:-1})); do
		wait -n
	done
	one "$@" &
}

debug=()
[[ ${DEBUG:-} ]] && debug=(--debug)
for kernel in ${KERNELS:-6.1 6.12}; do
	"$here/kernels.sh" "$kernel" && "$here/guest.sh" "$kernel" || exit 1
	make -s kmod KDIR="build/vm/kernels/$kernel/build" KMOD_O="build/vm/kmod/$kernel" || exit 1
done
for kernel in ${KERNELS:-6.1 6.12}; do
	selected bed "$kernel" && start bed "$kernel" "$here/test-bed.sh" "$kernel"
	for test in "$here"/light/*.sh; do
		name=$(basename "$test" .sh)
		selected "$name" "$kernel" || continue
		grep -q '^# vm-by-hand:' "$test" && continue
		start "$name" "$kernel" "$here/run" --kernel "$kernel" ${debug[@]+"${debug[@]}"} "$name"
	done
done
wait
count() { grep -cx "$1" "$tally"; }
failed=$(count FAIL)
printf '%d passed, %d failed, %d skipped\n' "$(count ok)" "$failed" "$(count skip)"
((failed == 0))
