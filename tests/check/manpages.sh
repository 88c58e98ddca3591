#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# manpages.sh - the manual pages are clean, there is one for each verb, and each documents the long
# options that its program's --help prints: all of them and no others.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build/rel}
export LC_ALL=C MANWIDTH=80
pages=docs/man
failed=0

skip() { echo "skipped: $*" && exit 77; }
wrong() {
	printf '%s\n' "$*"
	failed=1
}

# check_clean PAGE: neither man nor, where there is one, mandoc finds anything to say.
check_clean() {
	local said
	said=$(man --warnings -E UTF-8 -l "$1" 2>&1 >/dev/null) || wrong "$1: man fails"
	[[ -z $said ]] || wrong "$1: $said"
	! command -v mandoc >/dev/null || said=$(mandoc -T lint "$1" 2>&1) || wrong "$said"
}

# verbs: those that `ambroctl --help` lists.
verbs() { "$O/ambroctl" --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p'; }

# help_of PROGRAM [VERB]: its --help, and that of each of the verb's own words, as of "repo init".
help_of() {
	local help word
	help=$("$O/$1" "${@:2}" --help)
	echo "$help"
	[[ ${2:-} ]] || return 0
	sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' <<<"$help" | while read -r word; do
		help=$("$O/$1" "${@:2}" "$word" --help)
		# another name of a verb that has its page
		[[ $help != "Usage: $1 $2 $word"* ]] || echo "$help"
	done
}
# options_of_help PROGRAM [VERB]: the options that head a line of --help, all of "--this N, --that N".
options_of_help() {
	help_of "$@" | grep -oE '^ +(-[A-Za-z], )?(--[a-z-]+(\[?[= ][A-Z|]+\]?)?(, )?)+' |
		grep -oE -- '--[a-z-]+' | sort -u
}

# options_of_page PAGE: those that head a paragraph of its OPTIONS.
options_of_page() {
	awk '/^\.S[Hh] / { here = /OPTIONS/ } here && tag { print } { tag = /^\.TP/ }' "$1" |
		sed 's/\\-/-/g' | grep -oE -- '--[a-z-]+' | sort -u
}

# check_options PAGE PROGRAM [VERB]
check_options() {
	local page=$1 help documented o
	shift
	[[ -f $page ]] || {
		wrong "$page is missing"
		return
	}
	help=$(options_of_help "$@")
	documented=$(options_of_page "$page")
	[[ $help ]] || wrong "$* --help prints no options"
	for o in $(comm -23 <(echo "$help") <(echo "$documented")); do
		wrong "$page does not document $o"
	done
	for o in $(comm -13 <(echo "$help") <(echo "$documented")); do
		wrong "$page documents $o, which $* --help does not print"
	done
}

command -v man >/dev/null || skip "man is not installed"
for page in "$pages"/*.[18]; do
	[[ -f $page ]] || wrong "there are no pages in $pages"
	check_clean "$page"
done

[[ -x $O/ambroctl && -x $O/ambrod ]] || {
	((failed)) && exit 1
	skip "$O/ambroctl and ambrod are not built; the pages are clean"
}
check_options "$pages/ambrod.8" ambrod
check_options "$pages/ambroctl.1" ambroctl
[[ $(verbs) ]] || wrong "ambroctl --help lists no verbs"
for verb in $(verbs); do
	check_options "$pages/ambroctl-$verb.1" ambroctl "$verb"
done
for page in "$pages"/ambroctl-*.1; do
	verb=${page##*/ambroctl-} verb=${verb%.1}
	grep -qx "$verb" < <(verbs) || wrong "$page: ambroctl has no verb $verb"
done
exit "$failed"
