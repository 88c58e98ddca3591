#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A bit of a repository is wrong, in any object, or an object is not the one it should be, or is gone. `repo check --read-data` names it,
# and a restore gives what was captured or fails; never anything else.
#
# By default four bits of each object: at its start, in the middle, at its end, anywhere. AMBRO_ALL_BITS=1: a bit of each byte (hours).
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq python3
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077

seed=${SEED:-$((EPOCHSECONDS * 1000 + RANDOM))}
RANDOM=$((seed % 32768))
say "seed $seed (SEED=$seed repeats it)"
declare -A hash_of_disk=()

import() { ambroctl import -q --host h --disk "$1" "$scratch/$1.ambro"; }
objects() { (cd "$AMBRO_REPOSITORY" && find . -type f -printf '%P\n' | sort); }
# flip OBJECT OFFSET MASK
flip() {
	python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b ^ int(sys.argv[3])]))' \
		"$AMBRO_REPOSITORY/$1" "$2" "$3"
}

# restored_right WHAT [CODES]: each image of before restores to what it was, or fails with exit code 3, or one of CODES. $hurt: how many failed.
hurt=0
restored_right() {
	local disk status hash
	hurt=0
	for hash in "${!hash_of_disk[@]}"; do
		status=0
		rm -f "$scratch/out"
		ambroctl restore --yes "$hash" "$scratch/out" &>"$scratch/restore" || status=$?
		if ((status == 0)); then
			[[ $(hash_of "$scratch/out") == "${hash_of_disk[$hash]}" ]] || fail "$1: a restore gives other bytes"
		else
			((++hurt))
			[[ " 3 ${2:-} " == *" $status "* ]] ||
				fail "$1: restore ended with $status: $(cat "$scratch/restore")"
		fi
	done
}

# noticed WHAT OBJECT [CODES-OF-CHECK [CODES-OF-RESTORE]]: check names it, and restores are right.
noticed() {
	local status=0
	ambroctl repo check --read-data --json >"$scratch/check" 2>"$scratch/check.err" || status=$?
	[[ " ${3:-3} " == *" $status "* ]] || fail "$1: check ended with $status: $(cat "$scratch/check" "$scratch/check.err")"
	grep -qF -- "$2" "$scratch/check" "$scratch/check.err" || fail "$1: not named: $(cat "$scratch/check" "$scratch/check.err")"
	restored_right "$1" "${4:-}"
}

# ---- each object ---------------------------------------------------------------------------------

# offsets SIZE: where to flip.
offsets() {
	if [[ ${AMBRO_ALL_BITS:-} == 1 ]]; then
		seq 0 $(($1 - 1))
	else
		printf '%d\n' 0 $(($1 / 2)) $(($1 - 1)) $((RANDOM * 32768 % $1 + RANDOM % ($1 < 32768 ? $1 : 32768))) |
			awk -v n="$1" '{ print $1 % n }' | sort -un
	fi
}

# every_object WHICH: of the repository in $scratch/WHICH.
every_object() {
	local object offset mask n=0 harmless=0
	for object in $(objects); do
		for offset in $(offsets "$(stat -c %s "$AMBRO_REPOSITORY/$object")"); do
			mask=$((1 << RANDOM % 8))
			cp -p "$AMBRO_REPOSITORY/$object" "$scratch/was"
			flip "$object" "$offset" "$mask"
			case $object in
			keys/*)
				# 7: no slot is left that opens; who has no key finds it, too
				noticed "$1: bit $mask of byte $offset of $object" "${object#*/}" "3 7" 7
				expect_fail 3 "${object#*/}" ambroctl repo check --no-key
				;;
			*) noticed "$1: bit $mask of byte $offset of $object" "${object#*/*/}" ;;
			esac
			((hurt)) || ((++harmless))
			((++n))
			cp -p "$scratch/was" "$AMBRO_REPOSITORY/$object"
		done
	done
	ambroctl repo check --read-data &>"$scratch/check" || fail "$1: it was not put back: $(cat "$scratch/check")"
	say "$1: $n bits, $harmless of them hurt no image"
	((harmless * 2 < n)) || fail "$1: most bits hurt nothing"
}

# ---- another object in its place -------------------------------------------------------------------

# exchanged A B: the files of two objects.
exchanged() {
	mv "$AMBRO_REPOSITORY/$1" "$scratch/exchange"
	mv "$AMBRO_REPOSITORY/$2" "$AMBRO_REPOSITORY/$1"
	mv "$scratch/exchange" "$AMBRO_REPOSITORY/$2"
}
# drawn KIND: objects of it, two or more, the first of which some image needs: packs of the forgotten one may hurt none.
drawn() {
	local object
	local -a all
	mapfile -t all < <(objects | grep "^$1/" | shuf --random-source=<(yes))
	for object in "${all[@]}"; do
		if [[ $1 == packs ]]; then
			mv "$AMBRO_REPOSITORY/$object" "$scratch/exchange"
			restored_right "without $object"
			mv "$scratch/exchange" "$AMBRO_REPOSITORY/$object"
			((hurt)) || continue
		fi
		echo "$object"
		printf '%s\n' "${all[@]}" | grep -vxF "$object"
		return
	done
	fail "no image needs any of $1"
}
# every_exchange WHICH OTHER: two of the same kind; and what another repository has.
every_exchange() {
	local kind other name
	local -a two
	for kind in packs index images; do
		drawn "$kind" >"$scratch/drawn"
		mapfile -t -n 2 two <"$scratch/drawn"
		((${#two[@]} == 2)) || fail "$1: not two of $kind"
		exchanged "${two[@]}"
		noticed "$1: two of $kind exchanged" "${two[0]##*/}"
		grep -qF "${two[1]##*/}" "$scratch/check" || fail "$1: ${two[1]} is not named"
		((hurt)) || [[ $kind == index ]] || fail "$1: two of $kind exchanged, and it hurts nothing"
		exchanged "${two[@]}"

		mv "$AMBRO_REPOSITORY/${two[0]}" "$scratch/exchange"
		# of an image nothing else tells that it was there
		ambroctl repo check --json >"$scratch/check" 2>/dev/null && [[ $kind != images ]] &&
			fail "$1: one of $kind is gone, and check finds nothing"
		if [[ $kind == packs ]]; then
			noticed "$1: a pack is gone" "${two[0]##*/}"
			jq -e '.images_hurt >= 1 and any(.damages[]; .image)' "$scratch/check" >/dev/null ||
				fail "$1: a pack is gone, and no image is said to be hurt"
			# (one that is forgotten is not restored)
			jq -r '.damages[].image // empty | select(startswith("h/c/") | not)' "$scratch/check" | sort -u >"$scratch/hurt"
			(($(wc -l <"$scratch/hurt") == hurt)) || fail "$1: $hurt images are hurt, check names $(cat "$scratch/hurt")"
		fi
		mv "$scratch/exchange" "$AMBRO_REPOSITORY/${two[0]}"

		other=$(cd "$2" && find "$kind" -type f | head -n 1)
		name=$kind/${other#*/}
		mkdir -p "$AMBRO_REPOSITORY/${name%/*}"
		cp "$2/$other" "$AMBRO_REPOSITORY/$name"
		# 6: refused
		noticed "$1: one of $kind of another repository" "${name##*/}" 3 6
		if [[ $kind == images ]]; then
			expect_fail 3 "damaged" ambroctl list
			rm -f "$scratch/out"
			expect_fail any "" ambroctl restore --yes "${name##*/}" "$scratch/out"
			[[ ! -e $scratch/out ]] || fail "$1: an image of another repository was restored"
		fi
		rm "$AMBRO_REPOSITORY/$name"
	done
	ambroctl repo check --read-data &>"$scratch/check" || fail "$1: it was not put back: $(cat "$scratch/check")"

	# an old or another "format"
	cp -p "$AMBRO_REPOSITORY/format" "$scratch/was"
	cp "$2/format" "$AMBRO_REPOSITORY/format"
	noticed "$1: another format" "" "3 7" "6 7"
	((hurt == ${#hash_of_disk[@]})) || fail "$1: with another format $hurt images are refused"
	cp -p "$scratch/was" "$AMBRO_REPOSITORY/format"
}

# What nobody can see in the store alone: that the newest image is gone.
newest_gone() {
	local newest
	newest=$(ambroctl list --json | jq -r 'last.hash')
	mv "$AMBRO_REPOSITORY/images/$newest" "$scratch/was"
	ambroctl repo check --read-data &>"$scratch/check" || fail "$1: $(cat "$scratch/check")"
	expect_fail any "no image" ambroctl restore --yes "$newest" "$scratch/out"
	mv "$scratch/was" "$AMBRO_REPOSITORY/images/$newest"
}

# ---- two repositories of each sort ---------------------------------------------------------------------

# made WHICH [options of init…]: two images, and a third that was forgotten, and a pack marked; $scratch/WHICH.
made() {
	local hash disk
	export AMBRO_REPOSITORY=$scratch/$1
	ambroctl repo init --chunk-size 64K "${@:2}" >/dev/null
	import a
	import b
	import c
	ambroctl forget --yes h/c/latest >/dev/null
	hash_of_disk=()
	while read -r hash disk; do
		hash_of_disk[$hash]=$(hash_of "$scratch/$disk")
	done < <(ambroctl list --json | jq -r '.[] | .hash + " " + .disk')
	[[ ${#hash_of_disk[@]} == 2 ]] || fail "$1 has ${#hash_of_disk[@]} images"
}

head -c 600K /dev/urandom >"$scratch/a"
seq 1 100000 >>"$scratch/a"
truncate -s 2M "$scratch/a"
cp "$scratch/a" "$scratch/b"
head -c 300K /dev/urandom | dd of="$scratch/b" bs=64K seek=3 conv=notrunc status=none
head -c 200K /dev/urandom >"$scratch/c"
truncate -s 1M "$scratch/c"
for disk in a b c; do
	tool mkimage --chunk-shift 16 "$scratch/$disk" "$scratch/$disk.ambro"
done

made other
made plain
every_object plain
every_exchange plain "$scratch/other"
newest_gone plain

ambroctl key generate "$scratch/key" >/dev/null
mkdir "$scratch/credentials"
cp "$scratch/key" "$scratch/credentials/ambro-key"
export CREDENTIALS_DIRECTORY=$scratch/credentials
made other-encrypted --encrypt
made encrypted --encrypt --recovery-key "$scratch/recovery"
every_object encrypted
every_exchange encrypted "$scratch/other-encrypted"
newest_gone encrypted
