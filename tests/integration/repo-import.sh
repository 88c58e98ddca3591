#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# import says what is wrong with a file: cut off, of another chunk size, encrypted, or not encrypted though a key was given for it.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
require jq setsid
[[ -x $O/ambroctl && -x $O/tests/lib/tool-mkimage ]] || skip "$O/ambroctl or tool-mkimage is not built"
umask 077
cd "$scratch"
# no terminal, or it would ask there
refused() {
	expect_fail "$1" "$2" setsid "$O/ambroctl" import -q --host h --disk d "${@:3}" </dev/null
	one_line expect.err
	[[ ! $(names) ]] || fail "an image is there after: $(<expect.err)"
}

repo_make
echo "correct horse" >pw
echo "another" >pw2
head -c 3M /dev/urandom >raw
tool mkimage --chunk-shift 17 raw plain.ambro
AMBRO_REPOSITORY=$scratch/r2 ambroctl repo init >/dev/null
ambroctl import -q --repo r2 --host h --disk d plain.ambro
ambroctl export -q --repo r2 latest sealed.ambro --encrypt --new-passphrase-file pw
ambroctl key generate reader >reader.pub
ambroctl export -q --repo r2 latest for-key.ambro --encrypt --recipient reader.pub

# what was replaced by one in the clear is no better than one that was changed
for how in --image-passphrase-file=pw --image-key-file=reader; do
	refused 1 "not encrypted, but a key was given for it: was it replaced?" $how plain.ambro
	expect_fail 1 "was it replaced?" bash -c "'$O/ambroctl' import -q $how - <plain.ambro"
done

# the advice is of options that there are
refused 7 "give --image-key-file or --image-passphrase-file" sealed.ambro
refused 7 "which --image-key-file must give" for-key.ambro
refused 7 "" --image-passphrase-file pw2 sealed.ambro

# cut off anywhere: damaged
size=$(stat -c %s plain.ambro)
for at in 0 10 $((size / 2)) $((size - 1)); do
	head -c "$at" plain.ambro >cut.ambro
	refused 3 "cut.ambro" cut.ambro
done
head -c $(($(stat -c %s sealed.ambro) / 2)) sealed.ambro >cut.ambro
refused 3 "cut.ambro" --image-passphrase-file pw cut.ambro
refused 3 "raw" raw

# of another chunk size: what to do about it
tool mkimage --chunk-shift 20 raw large.ambro
refused 1 "capture --chunk-size 128K" large.ambro

# and what is right goes in
for how in plain.ambro "--image-passphrase-file=pw sealed.ambro" "--image-key-file=reader for-key.ambro"; do
	# shellcheck disable=SC2086 # words
	ambroctl import -q --host h --disk d $how
done
[[ $(names | wc -l) == 3 ]] || fail "$(names)"
restored latest back
same raw back
