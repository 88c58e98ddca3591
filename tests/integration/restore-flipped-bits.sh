#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A bit of the image is wrong, anywhere. Then a restore fails, or the target is right byte for byte; never anything
# else. What verify passes is restored. (test-image-reader flips every bit of a small image.)
. "$(dirname "$0")/../lib/functions.sh"
require python3 cmp

seed=${SEED:-$((EPOCHSECONDS * 1000 + RANDOM))}
say "seed $seed (SEED=$seed repeats it)"
raw=$scratch/raw img=$scratch/img bad=$scratch/bad out=$scratch/out
truncate -s 12M "$raw"
fs_make ext4 "$raw"
seq 1 200000 | dd of="$raw" bs=1M seek=5 conv=notrunc status=none
head -c 900K /dev/urandom | dd of="$raw" bs=1M seek=9 conv=notrunc status=none
tool mkimage --chunk-shift 16 --free $((7 << 20)):$((1 << 20)) "$raw" "$img"
ambroctl restore "$img" "$out" 2>/dev/null
same "$raw" "$out"

# half of the flips anywhere, half where the structures are: the first KiB, and from the first page on
python3 - "$img" "$seed" >"$scratch/bits" <<'PYTHON'
import random, sys
image = open(sys.argv[1], 'rb').read()
pages = image.find(b'AMBR\4\1\1\0') - 8
assert 0 < pages < len(image) - 1000
random.seed(int(sys.argv[2]))
for i in range(60):
    at = random.choice([range(len(image)), range(1024), range(pages, len(image))][i % 3 if i % 2 else 0])
    print(at, 1 << random.randrange(8))
PYTHON
flip() {
	cp "$img" "$bad"
	python3 -c 'import sys
f, at = open(sys.argv[1], "r+b"), int(sys.argv[2])
f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ int(sys.argv[3])]))' "$bad" "$@"
}
refused=0 harmless=0
while read -r at bit; do
	flip "$at" "$bit"
	verified=0 restored=0
	rm -f "$out"
	timeout 120 "$O/ambroctl" verify "$bad" &>"$scratch/verify" || verified=$?
	timeout 120 "$O/ambroctl" restore --yes "$bad" "$out" &>"$scratch/restore" || restored=$?
	if ((restored == 0)); then
		same "$raw" "$out"
		harmless=$((harmless + 1))
	else
		# 1: it has become an image that only a newer tool reads
		((restored == 3)) || grep -q 'newer tool' "$scratch/restore" ||
			fail "bit $bit of byte $at: exit code $restored: $(cat "$scratch/restore")"
		((verified != 0)) || fail "bit $bit of byte $at: verify passes what cannot be restored"
		[[ ! -e $out ]] || cmp -s -n $((1 << 20)) "$out" /dev/zero ||
			fail "bit $bit of byte $at: a target that is not whole has a beginning"
		refused=$((refused + 1))
	fi
	((verified == 0 || verified == 3 || verified == restored)) || fail "verify: exit code $verified"
done <"$scratch/bits"
say "$refused refused, $harmless harmless"
((refused >= 30)) || fail "only $refused of 60 flips were refused"
