#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Keys of an encrypted repository: what opens it, what does not any more, and that the last one stays.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq python3 setsid
[[ -x $O/ambroctl ]] || skip "$O/ambroctl is not built"
umask 077
cd "$scratch"
export AMBRO_REPOSITORY=$scratch/repo

key() { ambroctl key "$@"; }
# no terminal, or it would ask there
opens() { setsid "$O/ambroctl" repo info --json "$@" </dev/null >"$scratch/info"; }
refused() { expect_fail "$1" "$2" setsid "$O/ambroctl" "${@:3}" </dev/null && one_line "$scratch/expect.err"; }
id_of() { key list --json | jq -er --arg l "$1" '.[] | select(.label == $l).id'; }

echo "correct horse" >pw
printf 'a new one' >pw2
cp pw seen && chmod 644 seen
refused 7 "others can read or change it (mode 0644)" repo init --encrypt --passphrase-file seen
[[ ! -e repo/format ]] || fail "a repository was made all the same"
ambroctl repo init --encrypt --passphrase-file pw --recovery-key recovery >/dev/null
[[ $(stat -c %a recovery) == 400 ]] || fail "the recovery key can be read by others"
refused 6 "already" repo init --encrypt --passphrase-file pw

# what opens it
opens --passphrase-file pw
opens --key-file recovery
opens --passphrase-fd 7 7<pw
mkdir credentials && cp pw credentials/ambro-passphrase
# systemd's are mode 0440 where it uses an access list
chmod 440 credentials/ambro-passphrase
CREDENTIALS_DIRECTORY=$scratch/credentials opens
cp --preserve=mode recovery credentials/ambro-key
CREDENTIALS_DIRECTORY=$scratch/credentials opens

# while it has a secret, there is no core dump of it
mkfifo pipe
"$O/ambroctl" repo info --passphrase-fd 7 7<>pipe >/dev/null 2>&1 &
waiting=$!
no_core() { finds -E '^Max core file size +0 +0 ' <"/proc/$waiting/limits"; }
wait_for 10 no_core || fail "it would leave a core dump"
kill "$waiting"

# what does not
refused 7 "wrong" repo info --passphrase-file pw2
refused 7 "no terminal" repo info
refused 1 "only one of" repo info --passphrase-file pw --key-file recovery
: >empty
refused 1 "empty" repo info --passphrase-file empty
printf 'two\nlines\n' >lines
refused 1 "one line" repo info --passphrase-file lines
refused 1 "not a key, or mistyped" repo info --key-file pw
chmod 640 recovery
refused 7 "mode 0640" repo info --key-file recovery
chmod 400 recovery

# a client that may write
key generate client >client.pub
refused 6 "exists" key generate client
refused 7 "no slot for this key" repo info --key-file client
refused 1 "only its secret half unlocks" repo info --key-file client.pub
key add --passphrase-file pw --recipient client.pub --write-only --label web1 >added
grep -o 'AMBRO-REPOSITORY-1:.*' added >line
key add --key-file client --recipient "$(cat client.pub)" --write-only --label again >/dev/null
refused 7 "cannot give the right to read" key add --key-file client --recipient client.pub
refused 1 "shown to everybody" key add --recipient "$(tail -n1 client)"
[[ $(key list --json | jq -r '.[] | select(.label == "web1") | .type + .rights') == recipientwrite ]] ||
	fail "the slot is another"

# another repository in the place of this one is told by the line in the key's file
ambroctl repo init --encrypt --repo other --passphrase-file pw >/dev/null
key add --repo other --passphrase-file pw --recipient client.pub --write-only >/dev/null
key add --repo other --key-file client --recipient client.pub --write-only >/dev/null
chmod 600 client && cat line >>client
refused 7 "another repository" key add --repo other --key-file client --recipient client.pub --write-only
# nor is a key added that says so: it would not open this one
cat client.pub line >bound.pub
slots=$(find other/keys | wc -l)
refused 7 "bound.pub has a line AMBRO-REPOSITORY-1" key add --repo other --passphrase-file pw --recipient bound.pub
[[ $(find other/keys | wc -l) == "$slots" ]] || fail "it was added all the same"
key add --key-file client --recipient client.pub --write-only --label third >/dev/null

# changed
key change --passphrase-file pw --new-passphrase-file pw2 >/dev/null
refused 7 "wrong" repo info --passphrase-file pw
opens --passphrase-file pw2
refused 1 "opened by a key" key change --key-file recovery --new-passphrase-file pw
# the object "format" rotted, or was changed by who made a new check for it: nothing opens
cp -p repo/format format
sed -i 's/"chunk_shift": 17/"chunk_shift": 16/' repo/format
refused 3 "\"format\" is damaged" repo info --passphrase-file pw2
rechecked format
refused 7 "was changed" repo info --passphrase-file pw2
refused 3 "was changed" repo info --key-file recovery
sed -i 's/"encryption": "[^"]*"/"encryption": "none"/' repo/format
rechecked format
refused 1 "not encrypted, but a key was given" repo info --passphrase-file pw2
cp -p format repo/format

# revoked, and the last one stays
key remove "$(id_of recovery)" >/dev/null
refused 7 "no slot for this key" repo info --key-file recovery
refused 6 "last one with full rights" key remove "$(id_of "")"
opens --passphrase-file pw2
refused 1 "no key slot" key remove nosuch
key remove "$(id_of again | cut -c 1-8)" >/dev/null

# damaged, another repository's, and no slot at all: named by list and check, gone with --force only
key add --passphrase-file pw2 --new-passphrase-file pw --label damaged >/dev/null
id=$(id_of damaged)
sed -i 's/"sealed": "./"sealed": "x/' "repo/keys/$id"
foreign=$(basename "$(find other/keys -type f | head -n 1)")
cp "other/keys/$foreign" repo/keys/
echo "mine" >repo/keys/notes
key list >table 2>err
grep -qE "^$id +damaged +- +- +key slot $id is damaged" table || fail "$(cat table)"
grep -qE "^$foreign +foreign +- +- +key slot $foreign is another" table || fail "$(cat table)"
grep -qE "^notes +damaged" table || fail "$(cat table)"
one_line err
key list --json 2>/dev/null | jq -e --arg i "$foreign" 'any(.[]; .id == $i and .foreign) and ([.[] | select(.damaged)] | length) == 3' \
	>/dev/null || fail "$(key list --json)"
for options in --no-key "--passphrase-file pw2"; do
	status=0
	# shellcheck disable=SC2086
	ambroctl repo check --json $options >checked || status=$?
	((status == 3)) || fail "check ended with $status: $(cat checked)"
	for object in "$id" "$foreign" notes; do
		jq -e --arg o "keys/$object" 'any(.damages[]; .object == $o and (.what | contains("key remove")))' \
			<checked >/dev/null || fail "check does not name $object: $(cat checked)"
	done
done
opens --passphrase-file pw2
refused 3 "to remove it for good: --force" key remove "$id"
key remove "$id" --force >/dev/null
key remove "${foreign:0:10}" --force >/dev/null
key remove notes --force >/dev/null
ambroctl repo check --passphrase-file pw2 >/dev/null
# the last one with full rights stays, whole or not
id=$(id_of "")
sed -i 's/"sealed": "./"sealed": "x/' "repo/keys/$id"
refused 6 "once it is mended" key remove "$id" --force
refused 7 "could not be read" repo info --passphrase-file pw2
