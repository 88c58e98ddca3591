#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Which image of a repository a word stands for: latest, of a host, of a disk, the beginning of a name or of a hash; two of one
# second are never taken for one another; and whoever answers says which image it was.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
require jq
[[ -x $O/ambroctl && -x $O/tests/lib/tool-mkimage ]] || skip "$O/ambroctl or tool-mkimage is not built"
cd "$scratch"

# put HOST DISK TIME: an image of that time; the hash of it is added to $hashes
declare -A hashes=()
put() {
	tool mkimage --chunk-shift 17 --time "$(date -d "$3" +%s)" raw one.ambro
	ambroctl import -q --host "$1" --disk "$2" one.ambro
	hashes[$1/$2/$3]=$(ambroctl list --json | jq -r '.[].hash' | grep -vxF "$(printf '%s\n' "${hashes[@]}" none)")
}
# means HOST/DISK/TIME OPTION…: that is what `show` takes it for
means() {
	ambroctl show --json "${@:2}" >shown.json || fail "show ${*:2}"
	[[ $(jq -r '.image + " " + .hash' shown.json) == "$1 ${hashes[$1]}" ]] || fail "${*:2}: $(jq -c '[.image, .hash]' shown.json)"
}
several() { expect_fail 1 "$1" ambroctl show "${@:2}" && one_line expect.err; }
none() { expect_fail 1 "no image" ambroctl show "$@" && one_line expect.err; }

repo_make
head -c 600K /dev/urandom >raw
day=2026-03
put web1 vda ${day}-01T10:00:00Z
put web1 vda ${day}-02T10:00:00Z
put web1 vdb ${day}-03T10:00:00Z
put web10 vda ${day}-05T10:00:00Z
put db vda ${day}-04T10:00:00Z

means web10/vda/${day}-05T10:00:00Z latest
means web1/vdb/${day}-03T10:00:00Z latest --host web1
means web1/vdb/${day}-03T10:00:00Z web1/latest
means web1/vda/${day}-02T10:00:00Z web1/vda/latest
means web1/vda/${day}-02T10:00:00Z web1/vda/latest --host web1
none web/latest
none latest --host web
none vda/latest

# the beginning of a name
means db/vda/${day}-04T10:00:00Z d
means web1/vdb/${day}-03T10:00:00Z web1/vdb
means web1/vda/${day}-01T10:00:00Z web1/vda/${day}-01
means web10/vda/${day}-05T10:00:00Z web1 --host web10
several "could be any of 4 images" web1
several "web1/vdb" web1 --host web1
! grep -q web10 expect.err || fail "it speaks of another host's: $(<expect.err)"
none web2
none web1/vda --host db
expect_fail 1 "empty" ambroctl show ""

# of a hash, and nothing shorter than eight digits
hash=${hashes[db/vda/${day}-04T10:00:00Z]}
means db/vda/${day}-04T10:00:00Z "${hash:0:8}"
means db/vda/${day}-04T10:00:00Z "$hash"
none "${hash:0:7}"
none "$hash" --host web1

# two of one second: neither is taken for the other, and the digits that are told tell them apart
twin=db/vdc/${day}-06T10:00:00Z
put db vdc ${day}-06T10:00:00Z
first=${hashes[$twin]}
put db vdc ${day}-06T10:00:00Z
second=${hashes[$twin]}
several "is the name of 2 images" "$twin"
several "could be any of 2 images" db/vdc
for hash in "$first" "$second"; do
	grep -q "${hash:0:8}" expect.err || fail "${hash:0:8} is not told: $(<expect.err)"
	hashes[$twin]=$hash
	means "$twin" "${hash:0:8}"
done
expect_fail 1 "is the name of 2 images" ambroctl forget "$twin"
[[ $(ambroctl forget "${first:0:8}" "$first" "${first:0:12}") == "forgotten 1 image" ]] || fail "one image three times"
hashes[$twin]=$second
means "$twin" "$twin"
[[ $(names | grep -c vdc) == 1 ]] || fail "$(names)"

# what was read is said by its name in full
ambroctl verify --json latest | jq -e --arg n "$twin" --arg h "$second" '.image == $n and .hash == $h' >/dev/null || fail "verify"
ambroctl verify latest 2>/dev/null | finds "^$twin: OK" || fail "verify"
restored latest back
same raw back
jq -e --arg n "$twin" --arg h "$second" '.image == $n and .hash == $h' restored.json >/dev/null || fail "$(<restored.json)"
ambroctl export latest out.ambro 2>/dev/null | finds "^exported $twin: .* written to out.ambro$" || fail "export"
[[ ! $(ambroctl export -q --force latest out.ambro) ]] || fail "export -q"
ambroctl export --json --force latest out.ambro | jq -e --arg n "$twin" --arg h "$second" --argjson s "$(stat -c %s out.ambro)" \
	'. == {image: $n, hash: $h, output: "out.ambro", written: $s}' >/dev/null || fail "export --json: $(ambroctl export --json --force latest out.ambro)"
ambroctl show latest | finds "^Hash *$second$" || fail "show"
expect_fail 1 "export: cannot write to standard output: No space" bash -c "'$O/ambroctl' export latest - >/dev/full"

# list: the same words, and none is no success
[[ $(names web10) == web10/* && $(names --host db | wc -l) == 2 ]] || fail "$(names)"
expect_fail 1 "no image matches" ambroctl list nosuch
expect_fail 1 "no image matches" ambroctl list --host web
ambroctl repo init --repo empty >/dev/null
[[ ! $(ambroctl list --repo empty) ]] || fail "an empty repository"
for host in "we b1" ../x "" -x; do
	expect_fail 2 "--host: '$host' is not a name" ambroctl list --host "$host"
	expect_fail 2 "--host: '$host' is not a name" ambroctl import --host "$host" one.ambro
	expect_fail 2 "--disk: '$host' is not a name" ambroctl capture raw --disk "$host"
done
expect_fail 2 "ambroctl: show: --passphrase-fd" ambroctl show --passphrase-fd x latest
