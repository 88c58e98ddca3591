#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Without the right key an encrypted repository is neither read nor written: a wrong key, one of another repository, none, one that was
# revoked, a wrong passphrase. Exit code 7 and one line from each verb, nothing is written, and no store learns of it.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq setsid
[[ -x $O/tests/lib/tool-mkimage ]] || skip "$O/tests/lib/tool-mkimage is not built"
umask 077
cd "$scratch"
export AMBRO_REPOSITORY=$scratch/repo

for key in good other revoked writer; do
	ambroctl key generate "$key" >"$key.pub"
done
echo "not this one" >pw
ambroctl repo init --encrypt --chunk-size 64K --key-file good >/dev/null
ambroctl repo init --repo other-repo --encrypt --chunk-size 64K --key-file other >/dev/null
ambroctl key add --key-file good --recipient revoked.pub --label revoked >/dev/null
ambroctl key add --key-file good --recipient writer.pub --write-only --label writer >/dev/null
head -c 1M /dev/urandom >disk
tool mkimage --chunk-shift 16 disk image
ambroctl import -q --key-file revoked --host h --disk d image
ambroctl restore --key-file revoked --yes h/d/latest out 2>/dev/null
same disk out
rm out
ambroctl key remove "$(ambroctl key list --json | jq -er '.[] | select(.label == "revoked").id')" >/dev/null
agent_start

state() { (cd repo && find . -type f -exec sha256sum {} + | sort); }
state >before
# denied TEXT VERB…: no terminal, or it would ask there.
denied() {
	expect_fail 7 "$1" setsid "$O/ambroctl" "${@:2}" </dev/null
	one_line expect.err
	[[ ! -s expect.out ]] || fail "${*:2} said something: $(cat expect.out)"
	[[ ! -e out ]] || fail "${*:2} made its output"
	state | cmp - before || fail "${*:2} changed the repository"
}
# each TEXT OPTION…: all verbs that need a key.
each() {
	denied "$1" list "${@:2}"
	denied "$1" restore --yes "${@:2}" h/d/latest out
	denied "$1" export "${@:2}" h/d/latest out
	denied "$1" verify "${@:2}" h/d/latest
	denied "$1" show "${@:2}" h/d/latest
	denied "$1" forget --yes "${@:2}" h/d/latest
	denied "$1" prune "${@:2}"
	[[ $1 == read ]] && return
	denied "$1" repo check "${@:2}"
	denied "$1" repo repair "${@:2}"
	denied "$1" capture -q "${@:2}" "$scratch/disk"
	denied "$1" import -q "${@:2}" image
}
each "no slot for this key" --key-file other
each "no slot for this key" --key-file revoked
each "wrong" --passphrase-file pw
each "no terminal"
# who may only add
each read --key-file writer
[[ $(agent_call get-property Jobs) == "u 0" ]] || fail "a capture was begun"

ambroctl capture -q --key-file writer "$scratch/disk" --host h --disk d
[[ $(ambroctl list --key-file good --json | jq length) == 2 ]] || fail "not two images"
for image in $(ambroctl list --key-file good --json | jq -r '.[].hash'); do
	ambroctl restore --key-file good --yes "$image" out 2>/dev/null
	same disk out
	rm out
done
