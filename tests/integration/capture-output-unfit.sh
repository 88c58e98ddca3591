#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Outputs that cannot be: refused before anything is read, with one line, and what is there stays as it is.
. "$(dirname "$0")/../lib/functions.sh"
require_root

head -c 8M /dev/urandom >"$scratch/source"
agent_start
refused() {
	expect_fail "$1" "$2" timeout 120 "$O/ambroctl" capture "$scratch/source" -o "${@:3}"
	one_line "$scratch/expect.err"
}

mkdir "$scratch/dir" "$scratch/ro"
refused 6 "not a regular file" "$scratch/dir"
refused 6 "not a regular file" "$scratch/dir" --force
refused 6 "not a file's name" "$scratch/dir/new/"
refused 1 "No such file or directory" "$scratch/none/image.zst"
echo precious >"$scratch/old"
refused 6 "exists already; --force replaces it" "$scratch/old"
ln -s old "$scratch/link"
refused 6 "exists already" "$scratch/link"
[[ $(cat "$scratch/old") == precious ]] || fail "the file has changed"
refused 1 "Not a directory" "$scratch/old/image.zst"
mount_at tmpfs "$scratch/ro" -t tmpfs -o ro,size=1M
refused 1 "Read-only file system" "$scratch/ro/image.zst"
truncate -s 8M "$scratch/disk"
loop_make "$scratch/disk"
refused 6 "is a block device" "$loop"
cmp -s -n $((8 << 20)) "$scratch/disk" /dev/zero || fail "the disk was written to"
ln "$scratch/source" "$scratch/hard"
for same in "$scratch/source" "$scratch/hard"; do
	refused 6 "is the source itself" "$same"
	refused 6 "is the source itself" "$same" --force
done
(($(stat -c %s "$scratch/source") == 8 << 20)) || fail "the source was replaced by its image"
[[ -z $(find "$scratch/dir" -mindepth 1) ]] || fail "something was left behind"

ambroctl capture "$scratch/source" -o "$scratch/link" --force
[[ -L $scratch/link ]] || fail "the link was replaced, not the file"
ambroctl verify "$scratch/old"
