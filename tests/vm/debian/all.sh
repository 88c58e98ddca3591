#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# all.sh - the system tests of the full Debian guest, each on every kernel, one guest at a time.
# KERNELS="6.1 6.12", TESTS=PATTERN for the lines below that match it. Logs are in build/vm/results.

set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$here/../../../build/vm/results
mkdir -p "$results"

cases=(
	'boots --fs ext4'
	'boots --fs xfs'
	'boots --fs lvm'
	'timers --fs ext4'
	'live-root --fs ext4 --strategy precopy'
	'live-root --fs xfs --strategy precopy'
	'live-root --fs lvm --strategy precopy --source /dev/vda'
	'live-root --fs ext4 --strategy kmod'
	'live-root --fs xfs --strategy kmod'
	'live-root --fs lvm --strategy dm'
	'live-root --fs lvm --strategy kmod --source /dev/vda --store ram'
)

passed=0 failed=0 skipped=0
for kernel in ${KERNELS:-6.1 6.12}; do
	for words in "${cases[@]}"; do
		[[ ! ${TESTS:-} || $words =~ $TESTS ]] || continue
		read -ra word <<<"$words"
		log=$results/debian-$kernel-${words//[^a-z0-9]/-}.log
		began=$SECONDS status=0
		"$here/tests/${word[0]}.py" --kernel "$kernel" "${word[@]:1}" >"$log" 2>&1 </dev/null || status=$?
		case $status in
		0) verdict=ok && passed=$((passed + 1)) ;;
		77) verdict=skip && skipped=$((skipped + 1)) ;;
		*) verdict=FAIL && failed=$((failed + 1)) ;;
		esac
		printf '  %-4s  %-60s %6s\n' "$verdict" "$words [$kernel]" "$((SECONDS - began))s"
		[[ $verdict == ok ]] || tail -n 40 "$log" | sed 's/^/        | /'
	done
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
