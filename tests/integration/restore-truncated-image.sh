#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that was cut off, between any two frames or anywhere else, is refused by show, verify and restore:
# at once, with one line and exit code 3, and nothing on the target has changed. (test-image-reader cuts at every
# byte.)
. "$(dirname "$0")/../lib/functions.sh"
require python3 sha256sum

seed=${SEED:-$((EPOCHSECONDS * 1000 + RANDOM))}
say "seed $seed (SEED=$seed repeats it)"
raw=$scratch/raw img=$scratch/img cut=$scratch/cut
seq 1 300000 >"$raw"
head -c 300K /dev/urandom >>"$raw"
truncate -s 8M "$raw"
tool mkimage --chunk-shift 18 --regions 1048576,3145728 "$raw" "$img"

# where frames end, as the seek table says, and 20 places more
python3 - "$img" "$seed" >"$scratch/places" <<'PYTHON'
import random, struct, sys
image = open(sys.argv[1], 'rb').read()
frames, = struct.unpack('<I', image[-9:-5])
table = len(image) - 9 - 8 * frames
at, places = 0, {0, 1, table - 8, table, len(image) - 9, len(image) - 1}
for i in range(frames):
    at += struct.unpack_from('<I', image, table + 8 * i)[0]
    places.add(at)
assert at == table - 8
random.seed(int(sys.argv[2]))
places.update(random.sample(range(len(image)), 20))
print(*sorted(places))
PYTHON
read -ra places <"$scratch/places"
((${#places[@]} > 40)) || fail "only ${#places[@]} places"

head -c 9M /dev/urandom >"$scratch/old"
before=$(sha256sum <"$scratch/old")
refused() {
	expect_fail 3 "$cut: " timeout 120 "$O/ambroctl" "$@"
	one_line "$scratch/expect.err"
	[[ ! -s $scratch/expect.out ]] || fail "it says something on stdout: $(cat "$scratch/expect.out")"
}
for at in "${places[@]}"; do
	head -c "$at" "$img" >"$cut"
	say "cut at $at"
	refused verify "$cut"
	refused show "$cut"
	refused restore --yes "$cut" "$scratch/old"
	refused restore --yes "$cut" "$scratch/new"
	[[ ! -e $scratch/new ]] || fail "a target was made of an image cut at $at"
done
[[ $before == $(sha256sum <"$scratch/old") ]] || fail "the target has changed"
ambroctl restore "$img" "$scratch/new" 2>/dev/null
same "$raw" "$scratch/new"
