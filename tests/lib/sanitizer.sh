# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# sanitizer.sh - a report of ASan, LSan, UBSan or TSan fails the test, whichever process it comes from: the
# agent, its guardian, a client that is expected to fail. All of them write into one directory, which is
# looked at when the test ends. In other builds nothing reads these variables.

# What has to survive wherever a test cleans the environment.
# shellcheck disable=SC2034 # for the tests
sanitizer_variables=(ASAN_OPTIONS LSAN_OPTIONS TSAN_OPTIONS UBSAN_OPTIONS)
sanitizer_reports=

# sanitizer_build PROGRAM: was it built with one?
sanitizer_build() { grep -qE '__[at]san_init' "$1" 2>/dev/null; }

# sanitizer_fix_addresses PROGRAM CMD…: where the kernel spreads addresses wider than TSan's shadow of older
# compilers knows ("unexpected memory mapping"), begin anew without that.
sanitizer_fix_addresses() {
	local bits
	grep -q __tsan_init "$1" 2>/dev/null || return 0
	bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null) || return 0
	((bits > 28)) && [[ ! ${AMBRO_ADDRESSES_FIXED:-} ]] || return 0
	setarch -R true 2>/dev/null || return 0
	export AMBRO_ADDRESSES_FIXED=1
	exec setarch -R "${@:2}"
}

# sanitizer_begin: of every program that is started from now on.
sanitizer_begin() {
	local lib common
	lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
	# not in the build tree: clients of other users write there too
	sanitizer_reports=$(mktemp -d "${TMPDIR:-/tmp}/ambro-sanitizer.XXXXXX")
	chmod 1777 "$sanitizer_reports"
	common=log_path=$sanitizer_reports/report:log_exe_name=1:print_stacktrace=1
	# abort: an exit code might be the one that the test expects
	export ASAN_OPTIONS=$common:abort_on_error=1:handle_abort=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
	export LSAN_OPTIONS=$common:abort_on_error=1
	export UBSAN_OPTIONS=$common:abort_on_error=1:halt_on_error=1
	# goes on after a race, to find the next one too
	export TSAN_OPTIONS=$common:halt_on_error=0:history_size=4:second_deadlock_stack=1
	[[ ! -e $lib/tsan.supp ]] || TSAN_OPTIONS+=:suppressions=$lib/tsan.supp
}

# What LSan's own tracer writes when a test kills the process that it is looking through: it says that it could not
# look, not that it found anything.
sanitizer_disturbed='^==[^=]+==[0-9]+==Unable to get registers from thread [0-9]+\.$'

# sanitizer_end: print the reports; false when there are any.
sanitizer_end() {
	local report found=0
	[[ $sanitizer_reports ]] || return 0
	for report in "$sanitizer_reports"/*; do
		grep -qsvE "$sanitizer_disturbed" "$report" || continue
		found=1
		printf -- '--- sanitizer: %s\n' "${report##*/}"
		head -n 100 "$report"
	done
	rm -rf "$sanitizer_reports"
	sanitizer_reports=
	((found == 0))
}
