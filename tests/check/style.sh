#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# style.sh layers|format|shell|tidy|man - one style check over the tracked files.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build/rel}

skip() { echo "skipped: $*" && exit 77; }
need() { command -v "$1" >/dev/null || skip "$1 is not installed"; }

# tracked PATTERN…: those of the tracked files that are still there, NUL-terminated.
tracked() {
	git ls-files -z --deduplicate -- "$@" | while IFS= read -r -d '' f; do
		[[ -f $f ]] && printf '%s\0' "$f"
	done
}

case ${1:-} in
layers)
	need python3
	exec python3 tests/check/layers.py .
	;;
format)
	need clang-format
	tracked '*.c' '*.h' | xargs -0r clang-format -n -Werror
	;;
shell)
	need shellcheck
	tracked '*.sh' .ci/run | xargs -0r shellcheck -x -P SCRIPTDIR -e SC2119 # optional arguments are no mistake
	;;
tidy)
	need clang-tidy
	# Two at a time: each takes a core and some hundred MB. BPF code is not for the host's compiler.
	tracked '*.c' ':!ebpf/*' | O=$O xargs -0r -n 1 -P 2 "$0" tidy-one
	;;
man)
	O=$O exec tests/check/manpages.sh
	;;
tidy-one)
	# the "N warnings generated" of the system's headers is noise
	# shellcheck disable=SC2046 # words, on purpose
	out=$(clang-tidy --quiet "$2" -- -std=gnu11 -D_GNU_SOURCE -DAMBRO_VERSION='"x"' -I. -isystem "$O/gen" \
		$(pkg-config --cflags blkid mount fdisk ext2fs) 2>&1) ||
		{ printf '%s\n' "$out" | grep -v 'warnings\? generated' && exit 1; }
	;;
*)
	echo "usage: style.sh layers|format|shell|tidy|man" >&2
	exit 2
	;;
esac
