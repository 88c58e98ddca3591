#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One index file is damaged. What does not need it works: list, show, forget and its undoing. What needs it says what to do, `repo
# repair`, and after that all is well.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077

damaged() {
	local index
	index=$(find "$AMBRO_REPOSITORY/index" -type f | head -n 1)
	chmod u+w "$index"
	printf 'rotten' | dd of="$index" bs=1 seek=200 conv=notrunc status=none
}
# without_index: what works.
without_index() {
	[[ $(names | wc -l) == 2 ]] || fail "$1: list: $(names)"
	ambroctl show h/a/latest >"$scratch/shown" || fail "$1: show"
	finds "^Image  *h/a/" <"$scratch/shown" || fail "$1: $(cat "$scratch/shown")"
	[[ $(ambroctl show --json h/a/latest | jq .disk.size) == 1048576 ]] || fail "$1: show --json"
	ambroctl forget h/a/latest >/dev/null || fail "$1: forget"
	[[ $(names | wc -l) == 1 ]] || fail "$1: it was not forgotten"
	ambroctl forget --undo "$(ambroctl list --forgotten --json | jq -r '.[] | select(.forgotten).hash')" >/dev/null ||
		fail "$1: forget --undo"
	ambroctl forget --yes --keep-last 1 >/dev/null || fail "$1: forget by a policy"
	[[ $(names | wc -l) == 2 ]] || fail "$1: one was not taken back, or a policy took one"
}
# with_index: what does not, and why.
with_index() {
	expect_fail 3 "ambroctl repo repair" ambroctl restore --yes h/a/latest "$scratch/out"
	expect_fail 3 "ambroctl repo repair" ambroctl verify h/a/latest
	expect_fail 3 "ambroctl repo repair" ambroctl export h/a/latest "$scratch/exported"
	expect_fail 3 "ambroctl repo repair" ambroctl import -q --host h --disk c "$scratch/a.ambro"
	expect_fail 3 "ambroctl repo repair" ambroctl repo info
	expect_fail 3 "ambroctl repo repair" ambroctl prune
	expect_fail 3 "ambroctl repo repair" ambroctl repo check
	[[ ! -e $scratch/out && ! -e $scratch/exported ]] || fail "$1: something was made of it"
}
# every WHICH [options of init…]
every() {
	local disk
	export AMBRO_REPOSITORY=$scratch/$1
	ambroctl repo init --chunk-size 64K "${@:2}" >/dev/null
	for disk in a b; do
		ambroctl import -q --host h --disk "$disk" "$scratch/$disk.ambro"
	done
	damaged
	without_index "$1"
	with_index "$1"
	ambroctl repo repair >/dev/null || fail "$1: repair"
	ambroctl repo check --read-data >/dev/null || fail "$1: check after the repair"
	for disk in a b; do
		restored "h/$disk/latest" "$scratch/out"
		cmp "$scratch/out" "$scratch/$disk" || fail "$1: another disk"
		rm "$scratch/out"
	done
}

for disk in a b; do
	head -c 1M /dev/urandom >"$scratch/$disk"
	tool mkimage --chunk-shift 16 "$scratch/$disk" "$scratch/$disk.ambro"
done
every plain
ambroctl key generate "$scratch/key" >/dev/null
mkdir "$scratch/credentials"
cp "$scratch/key" "$scratch/credentials/ambro-key"
export CREDENTIALS_DIRECTORY=$scratch/credentials
every encrypted --encrypt
