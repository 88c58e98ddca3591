#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An encrypted file: whoever has its passphrase or secret key gets the disk, all others nothing.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require jq python3 setsid zstd
umask 077

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 60
for i in {1..2000}; do printf 'ambro-shibboleth %s\n' "$i"; done >"$scratch/mnt/secret"
sums "$scratch/mnt" >"$scratch/sums"
agent_start
cd "$scratch"

# no terminal, or it would ask there
refused() { expect_fail "$1" "$2" setsid "$O/ambroctl" "${@:3}" </dev/null && one_line "$scratch/expect.err"; }
# gives FILE OPTION…: the disk that was captured
gives() {
	rm -f disk
	ambroctl restore --yes "${@:2}" "$1" disk
	fs_check ext4 disk
	mkdir -p again
	mount -o loop,ro,noload disk again
	(cd again && sha256sum --quiet -c ../sums) || fail "$1: the files differ"
	umount again
}
# hidden FILE: nothing of what is in it is seen
hidden() {
	! LC_ALL=C grep -qaE 'shibboleth|manifest|"regions"' "$1" || fail "$1: something in it can be read"
	expect_fail 1 "Dictionary mismatch" zstd -qdc "$1"
	! head -c -13 "$1" | finds -aF "$(printf '\x28\xb5\x2f\xfd\x60')" || fail "$1: there is a zstd frame in it"
}

# by a passphrase; the disk is alive
echo "correct horse" >pw
noise_start "$scratch/mnt" 8
ambroctl capture "$loop" -o live.ambro --encrypt --passphrase-file pw --json >live.json
_stop_quietly $!
[[ $(jq .encrypted live.json) == true ]] || fail "the result does not say that it is encrypted"
[[ $(jq .sealed_bytes live.json) == $(stat -c %s live.ambro) ]] || fail "the result has another size"
[[ $(stat -c %a live.ambro) == 600 ]] || fail "others can read it"
hidden live.ambro
ambroctl show --passphrase-file pw live.ambro >shown
ambroctl show --json --passphrase-file pw live.ambro | jq -e .regions >/dev/null
ambroctl verify --passphrase-fd 7 live.ambro 7<pw
mkdir credentials && cp pw credentials/ambro-passphrase
CREDENTIALS_DIRECTORY=$scratch/credentials ambroctl verify live.ambro
gives live.ambro --passphrase-file pw

# for recipients, and a passphrase beside them
"$O/ambroctl" key generate one >one.pub
"$O/ambroctl" key generate two >two.pub
"$O/ambroctl" key generate other >other.pub
ambroctl capture "$loop" -o keys.ambro --encrypt --recipient one.pub --recipient "$(tail -n 1 two.pub)"
hidden keys.ambro
gives keys.ambro --key-file one
gives keys.ambro --key-file two
ambroctl capture "$loop" -o both.ambro --encrypt --recipient one.pub --passphrase-file pw
ambroctl verify --key-file one both.ambro
ambroctl verify --passphrase-file pw both.ambro

# by a passphrase that is asked for
on_terminal() { "$top/tests/lib/terminal.py" "$@" >said || fail "$(cat said)"; }
on_terminal "want:New passphrase: " secret type:horse "want:The same again: " secret type:horse \
	-- "$O/ambroctl" capture "$loop" -o asked.ambro --encrypt
on_terminal "want:Passphrase of asked.ambro: " secret type:horses "want:Not that one" secret type:horse want:Host \
	-- "$O/ambroctl" show asked.ambro

# no key, the wrong one, one for nothing
for verb in show verify; do
	refused 7 "encrypted (for 1 passphrase)" "$verb" live.ambro
	refused 7 "for a key, which --key-file must give" "$verb" keys.ambro
	refused 7 "not for this key" "$verb" --key-file other keys.ambro
	refused 7 "only the secret key" "$verb" --passphrase-file pw keys.ambro
	refused 1 "only its secret half" "$verb" --key-file one.pub keys.ambro
done
echo "correct horses" >wrong
refused 7 "it is wrong" restore --yes --passphrase-file wrong live.ambro no-disk
[[ ! -e no-disk ]] || fail "something was restored"

# what would write in the clear, or for nobody
expect_fail 2 "written in the clear" ambroctl capture "$loop" -o no.ambro --passphrase-file pw
expect_fail 2 "--recipient is for --encrypt" ambroctl capture "$loop" -o no.ambro --recipient one.pub
expect_fail 2 "instead of --key-file" ambroctl capture "$loop" -o no.ambro --encrypt --key-file one
expect_fail 2 "for files" ambroctl capture "$loop" --repo "$scratch/repo" --encrypt
refused 7 "no terminal" capture "$loop" -o no.ambro --encrypt
refused 1 "shown to everybody" capture "$loop" -o no.ambro --encrypt --recipient "$(tail -n 1 one)"
refused 1 "not a key" capture "$loop" -o no.ambro --encrypt --recipient pw
for source in "$loop" "$scratch/mnt"; do
	expect_fail 6 "would lie on" ambroctl capture "$source" -o "$scratch/mnt/no.ambro" --encrypt --passphrase-file pw
done
[[ ! -e no.ambro && ! -e mnt/no.ambro ]] || fail "a file was left"
ambroctl capture "$loop" -o plain.ambro
refused 1 "was it replaced" verify --passphrase-file pw plain.ambro

# through a pipe; several at once of which each is whole
ambroctl capture "$loop" -o - --encrypt --recipient one.pub -q | cat >pipe.ambro
gives pipe.ambro --key-file one
ambroctl capture "$loop" -o - --encrypt --recipient one.pub 2>err | head -c 1000000 >cut.ambro && fail "a broken pipe is no success"
one_line err
refused 3 "" verify --key-file one cut.ambro

# changed, cut, put together of two: refused, and nothing is restored of what is behind the change
size=$(stat -c %s keys.ambro)
for place in 45 70 100 200 $((size / 2)) $((size - 1)); do
	cp keys.ambro bad.ambro
	byte=$(od -An -tu1 -j "$place" -N 1 bad.ambro)
	printf '%b' "\\x$(printf %x $((byte ^ 16)))" | dd of=bad.ambro bs=1 seek="$place" conv=notrunc status=none
	refused 3 "" verify --key-file one bad.ambro
done
segment=$(((1 << 20) + 40))
head=$((40 + 56 + 2 * 184 + 13))
head -c $((head + 3 * segment)) keys.ambro >cut.ambro
refused 3 "cut off" verify --key-file one cut.ambro
cp keys.ambro bad.ambro
dd if=keys.ambro of=bad.ambro iflag=skip_bytes,count_bytes oflag=seek_bytes skip=$head seek=$((head + segment)) \
	count=$segment bs=64K conv=notrunc status=none
refused 3 "changed" verify --key-file one bad.ambro

# in a repository, and out of it; also from a pipe
export AMBRO_REPOSITORY=$scratch/repo
chunk=$(ambroctl show --json --key-file one keys.ambro | jq -r .chunk_size)
ambroctl repo init --encrypt --passphrase-file pw --chunk-size $((chunk / 1024))K >/dev/null
ambroctl import --passphrase-file pw --image-key-file one --disk a keys.ambro
ambroctl import --passphrase-file pw --disk b live.ambro
ambroctl import --passphrase-file pw --image-key-file one --disk c - <keys.ambro
# shellcheck disable=SC2002 # a pipe is what is meant
cat keys.ambro | ambroctl import --passphrase-file pw --image-key-file one --disk d -
# shellcheck disable=SC2002
cat plain.ambro | ambroctl import --passphrase-file pw --disk e -
head -c $((head + 3 * segment)) keys.ambro | expect_fail 3 "cut off" ambroctl import --passphrase-file pw --image-key-file one --disk f -
expect_fail 7 "may need --image-key-file" ambroctl import --passphrase-file pw --disk f keys.ambro
[[ $(ambroctl list --passphrase-file pw --json | jq length) == 5 ]] || fail "there are not five images"
name=$(ambroctl list --passphrase-file pw --json | jq -r '.[] | select(.disk == "d").name')
ambroctl export --passphrase-file pw --encrypt --recipient two.pub "$name" out.ambro
hidden out.ambro
unset AMBRO_REPOSITORY
gives out.ambro --key-file two
