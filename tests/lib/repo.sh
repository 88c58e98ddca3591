# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# shellcheck disable=SC2034,SC2120,SC2154 # $taken is the test's, $scratch of functions.sh, and arguments may be absent
#
# repo.sh - what the tests of repositories share; sourced after functions.sh.

# repo_make [options of repo init…]: a new repository; $AMBRO_REPOSITORY is it.
repo_make() {
	export AMBRO_REPOSITORY=$scratch/repo
	ambroctl repo init "$@" >/dev/null
}

# taken DISK [options of capture…]: into the repository; its result is $scratch/taken.json, its name $taken.
taken=
taken() {
	ambroctl capture --json "$@" >"$scratch/taken.json" 2>"$scratch/taken.err" ||
		fail "capture $*: $(cat "$scratch/taken.err")"
	taken=$(taken_says .image)
}
taken_says() { jq -r "$1" "$scratch/taken.json"; }

# names [options of list…]: of the images, one a line.
names() { ambroctl list --json "$@" | jq -r '.[].name'; }

# restored NAME FILE: that image, restored to FILE, a new one.
restored() {
	rm -f "$2"
	ambroctl restore --json --yes "$1" "$2" >"$scratch/restored.json" 2>"$scratch/restored.err" ||
		fail "restore of $1: $(cat "$scratch/restored.err")"
}
hash_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

# repo_bytes: of all objects.
repo_bytes() { find "$AMBRO_REPOSITORY" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

# rechecked OBJECT: a "check" that is right for what the object (format, keys/…) says now: it was changed by who knows how.
rechecked() {
	python3 - "$AMBRO_REPOSITORY/$1" "$1" <<-'EOF'
		import hashlib, sys
		with open(sys.argv[1], 'r+b') as f:
		    text = f.read()[:-80]
		    check = hashlib.sha256(sys.argv[2].encode() + text).hexdigest()
		    f.seek(0)
		    f.write(text + b',\n "check": "' + check.encode() + b'"\n}')
		    f.truncate()
	EOF
}
