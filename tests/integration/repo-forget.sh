#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# forget: each rule on the command line, and what it keeps of images of known times; --dry-run changes nothing; --undo; each
# image is counted once, and what was so already is said to be.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
require jq
[[ -x $O/ambroctl && -x $O/tests/lib/tool-mkimage ]] || skip "$O/ambroctl or tool-mkimage is not built"
cd "$scratch"

# put DISK TIME [option of import…]
put() {
	tool mkimage --chunk-shift 17 --time "$(date -d "$2" +%s)" raw one.ambro
	ambroctl import -q --host h --disk "$1" "${@:3}" one.ambro
}
# keeps "TIME…" OPTION…: what a policy would leave of the disk d, by the days and hours of the images
keeps() {
	ambroctl forget --dry-run --json --host h --disk d "${@:2}" >verdict.json || fail "forget ${*:2}"
	[[ $(jq -r '[.kept[].name[4:17]] | sort | join(" ")' verdict.json) == "$1" ]] ||
		fail "${*:2} keeps $(jq -r '[.kept[].name[4:17]] | sort | join(" ")' verdict.json), not $1"
	(($(jq '(.kept | length) + (.forgotten | length)' verdict.json) == 8)) || fail "${*:2}: $(<verdict.json)"
}
objects() { (cd repo && find . -type f | sort); }

repo_make
head -c 300K /dev/urandom >raw
for at in 2024-12-31T23 2025-11-30T12 2025-12-29T12 2026-01-05T08 2026-01-05T22 2026-01-06T22; do
	put d $at:30:00Z
done
put d 2026-01-07T08:10:00Z --tag before-upgrade
put d 2026-01-07T08:50:00Z
put other 2020-01-01T00:00:00Z
before=$(objects)

# each rule alone
keeps "2026-01-07T08" --keep-last 1
keeps "2026-01-06T22 2026-01-07T08 2026-01-07T08" --keep-last 3
keeps "2026-01-05T22 2026-01-06T22 2026-01-07T08" --keep-hourly 3
keeps "2026-01-05T22 2026-01-06T22 2026-01-07T08" --keep-daily 3
keeps "2025-12-29T12 2026-01-07T08" --keep-weekly 2
keeps "2025-11-30T12 2025-12-29T12 2026-01-07T08" --keep-monthly 3
keeps "2024-12-31T23 2025-12-29T12 2026-01-07T08" --keep-yearly all
keeps "2025-12-29T12 2026-01-07T08" --keep-yearly 2
keeps "2026-01-06T22 2026-01-07T08 2026-01-07T08" --keep-within 34h
keeps "2026-01-05T22 2026-01-06T22 2026-01-07T08 2026-01-07T08" --keep-within 2d
keeps "2025-12-29T12 2026-01-05T08 2026-01-05T22 2026-01-06T22 2026-01-07T08 2026-01-07T08" --keep-within 2w
keeps "2026-01-07T08 2026-01-07T08" --keep-tag before-upgrade --keep-last 1
[[ $(jq -r '.kept[].kept_by' verdict.json | grep -c tag) == 1 ]] || fail "which rule: $(<verdict.json)"
# together they keep what any of them keeps
keeps "2024-12-31T23 2025-12-29T12 2026-01-06T22 2026-01-07T08" --keep-daily 2 --keep-yearly 3
# a policy that would take all images of a disk is refused; --tag looks at those that have it
expect_fail 1 "nothing is forgotten" ambroctl forget --yes --disk d --keep-last 0
expect_fail 1 "all would be forgotten" ambroctl forget --yes --disk d --keep-tag nosuch
ambroctl forget --dry-run --json --tag before-upgrade --keep-last 1 >verdict.json
[[ $(jq -c '[(.kept | length), (.forgotten | length)]' verdict.json) == "[1,0]" ]] || fail "--tag: $(<verdict.json)"
ambroctl forget --dry-run --keep-last 1 | finds "^would have forgotten 7 images$" || fail "the count"
[[ $(objects) == "$before" ]] || fail "--dry-run changed something"

# what a policy takes is asked for, and nothing is done without an answer
expect_fail 6 "--yes" ambroctl forget --disk d --keep-last 3 </dev/null
[[ $(objects) == "$before" ]] || fail "refused, and changed something"
[[ $(ambroctl forget --disk d --keep-last 3 --yes) == "forgotten 5 images" ]] || fail "the count"
[[ $(names | grep -c '^h/d/') == 3 && $(names | grep -c other) == 1 && $(names --forgotten | wc -l) == 9 ]] || fail "$(names)"
[[ $(ambroctl forget --disk d --keep-last 3 --yes) == "forgotten 0 images" ]] || fail "the same again"

# taken back: only what is forgotten, each once
gone=h/d/2025-11-30T12:30:00Z
hash=$(ambroctl list --json --forgotten | jq -r --arg n $gone '.[] | select(.name == $n).hash')
[[ $(ambroctl forget --undo --dry-run $gone) == "would have taken back 1 image" ]] || fail "--undo --dry-run"
! names | finds -x $gone || fail "--dry-run took it back"
[[ $(ambroctl forget --undo $gone "$hash" "${hash:0:8}") == "taken back 1 image" ]] || fail "--undo"
names | finds -x $gone || fail "it is not there"
for word in $gone "$hash" "${hash:0:8}"; do
	[[ $(ambroctl forget --undo "$word" 2>note) == "taken back 0 images" ]] || fail "--undo of one that is there"
	grep -q "note: $gone (${hash:0:8}) is not forgotten" note || fail "$(<note)"
done
expect_fail 1 "no forgotten image" ambroctl forget --undo h/nosuch

# by name: the second time it is said
[[ $(ambroctl forget --json $gone | jq -c '[(.forgotten | length), (.unchanged | length)]') == "[1,0]" ]] || fail "--json"
for word in $gone "$hash" "${hash:0:8}"; do
	[[ $(ambroctl forget "$word" 2>note) == "forgotten 0 images" ]] || fail "twice"
	grep -q "note: $gone (${hash:0:8}) was forgotten already" note || fail "$(<note)"
done
[[ $(ambroctl forget --json "$hash" | jq -c '[(.forgotten | length), .unchanged[0].name]') == "[0,\"$gone\"]" ]] || fail "--json"
before=$(objects)
expect_fail 1 "no image" ambroctl forget h/d/latest h/nosuch
expect_fail 1 "no image" ambroctl forget "$(printf '0%.0s' {1..64})"
expect_fail 2 "either images" ambroctl forget --keep-last 1 $gone
[[ $(objects) == "$before" ]] || fail "one name was wrong, and something was done"

# one that is damaged is in no list, and its whole hash lets it go and takes it back
damaged=repo/images/$(ambroctl list --json | jq -r '.[] | select(.disk == "other").hash')
chmod u+w "$damaged"
printf x | dd of="$damaged" bs=1 seek=200 conv=notrunc status=none
hash=${damaged##*/}
[[ $(ambroctl forget --undo "$hash" 2>note) == "taken back 0 images" ]] || fail "--undo of a damaged one"
grep -q "a damaged image (${hash:0:8}) is not forgotten" note || fail "$(<note)"
[[ $(ambroctl forget "$hash" 2>/dev/null) == "forgotten 1 image" ]] || fail "a damaged one"
[[ $(ambroctl forget "$hash" 2>note) == "forgotten 0 images" ]] || fail "a damaged one, twice"
grep -q "a damaged image (${hash:0:8}) was forgotten already" note || fail "$(<note)"
[[ $(ambroctl forget --undo "$hash" 2>/dev/null) == "taken back 1 image" ]] || fail "a damaged one, taken back"
