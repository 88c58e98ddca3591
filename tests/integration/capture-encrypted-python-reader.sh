#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The second reader of encrypted files, which shares no code with ours, makes of one the image that is in it.
. "$(dirname "$0")/../lib/functions.sh"
require_root
python=
for p in python3 /usr/bin/python3; do
	"$p" -c 'import nacl' 2>/dev/null && python=$p && break
done
[[ $python ]] || skip "python3-nacl is not installed"
umask 077

truncate -s 64M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 20
umount_at "$scratch/mnt"
agent_start
cd "$scratch"
unseal() { "$python" "$top/tests/golden/unseal.py" "$@"; }

echo "correct horse" >pw
"$O/ambroctl" key generate key >key.pub
secret=$(sed -n 's/^AMBRO-SECRET-1:\(.\{64\}\).*/\1/p' key)
ambroctl capture "$loop" -o sealed.ambro --encrypt --passphrase-file pw --recipient key.pub
unseal --passphrase-file pw sealed.ambro by-passphrase
unseal --secret-key "$secret" sealed.ambro by-key
cmp by-passphrase by-key
ambroctl verify by-key
zstd -dcq by-key | cmp - "$scratch/source"
ambroctl restore --yes --key-file key sealed.ambro disk
cmp disk "$scratch/source"

# and it refuses what ours refuses
size=$(stat -c %s sealed.ambro)
for place in 45 100 250 $((size - 1)); do
	cp sealed.ambro bad.ambro
	byte=$(od -An -tu1 -j "$place" -N 1 bad.ambro)
	printf '%b' "\\x$(printf %x $((byte ^ 16)))" | dd of=bad.ambro bs=1 seek="$place" conv=notrunc status=none
	expect_fail 1 "unseal.py" unseal --secret-key "$secret" bad.ambro out
	expect_fail 3 "" ambroctl verify --key-file key bad.ambro
done
head -c $((size - size % ((1 << 20) + 40))) sealed.ambro >bad.ambro
expect_fail 1 "unseal.py" unseal --secret-key "$secret" bad.ambro out
