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

# tidy_key FILE FLAG…: of the file, of all that it includes, of the rules; nothing when that cannot be told.
tidy_key() {
	local list
	list=$(cc -M "${@:2}" "$1" 2>/dev/null | sed 's/^[^:]*://; s/\\$//') || return 0
	# shellcheck disable=SC2086 # names without spaces
	{
		clang-tidy --version && printf '%s\n' "${@:2}" &&
			sha256sum .clang-tidy tests/.clang-tidy "$1" $list
	} 2>/dev/null | sha256sum | cut -d ' ' -f 1
}

# tidy_one FILE: what was clean is not looked at again; $O/tidy remembers, and may be removed at any time.
tidy_one() {
	local flags key out
	# shellcheck disable=SC2207 # words, on purpose
	flags=(-std=gnu11 -D_GNU_SOURCE -DHAVE_IPSEC_MB '-DAMBRO_VERSION="x"' -I. -isystem "$O/gen"
		$(pkg-config --cflags blkid mount fdisk ext2fs))
	key=$(tidy_key "$1" "${flags[@]}")
	[[ $key && -e $O/tidy/$key ]] && return
	# the "N warnings generated" of the system's headers is noise
	out=$(clang-tidy --quiet "$1" -- "${flags[@]}" 2>&1) ||
		{ printf '%s\n' "$out" | grep -v 'warnings\? generated' && return 1; }
	[[ ! $key ]] || { mkdir -p "$O/tidy" && : >"$O/tidy/$key"; }
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
	! git grep -nE '[^|]\| *grep -[a-zA-Z]*q' -- tests/lib tests/integration 'tests/vm/*.sh' ':!tests/vm/light/bed-*' ||
		{ echo "use finds: with pipefail, grep -q ends what still writes (tests/lib/functions.sh)" && exit 1; }
	# it reads what each script sources, anew for each
	tracked '*.sh' .ci/run tests/vm/run | xargs -0r -n 8 -P "$(nproc)" shellcheck -x -P SCRIPTDIR -e SC2119 # optional arguments are no mistake
	;;
tidy)
	need clang-tidy
	# one for each core: each takes some hundred MB. BPF code and the module's are not for the host's compiler.
	tracked '*.c' ':!ebpf/*' ':!kmod/*' | O=$O xargs -0r -n 1 -P "$(nproc)" "$0" tidy-one
	;;
man)
	O=$O exec tests/check/manpages.sh
	;;
tidy-one)
	tidy_one "$2"
	;;
*)
	echo "usage: style.sh layers|format|shell|tidy|man" >&2
	exit 2
	;;
esac
