#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# capture -o --chunk-size: the file has such chunks, and goes into a repository of that size.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
require_root
require jq
agent_start
repo_make
head -c 5M /dev/urandom >"$scratch/source"
truncate -s 16M "$scratch/source"
loop_make "$scratch/source"

for size in 64K 128K 4M; do
	ambroctl capture -q "$loop" -o "$scratch/$size" --chunk-size "$size"
	(($(manifest "$scratch/$size" .chunk_size) == $(numfmt --from=iec "$size"))) || fail "$size: $(manifest "$scratch/$size" .chunk_size)"
	restored "$scratch/$size" "$scratch/back"
	same "$scratch/source" "$scratch/back"
done
ambroctl import -q --host h --disk d "$scratch/128K"
restored latest "$scratch/back"
same "$scratch/source" "$scratch/back"
expect_fail 1 "captured with 'capture --chunk-size 128K'" ambroctl import "$scratch/64K"

for size in 32K 8M 192K 0 -1 x; do
	expect_fail 2 "--chunk-size" ambroctl capture "$loop" -o "$scratch/none" --chunk-size "$size"
done
expect_fail 2 "--chunk-size is for files" ambroctl capture "$loop" --repo "$scratch/repo" --chunk-size 256K
expect_fail 2 "is given twice" ambroctl capture "$loop" "$loop" --repo "$scratch/repo"
expect_fail 2 "--disk is one disk's name" ambroctl capture "$loop" "$scratch/source" --repo "$scratch/repo" --disk d
cp "$scratch/source" "$scratch/other"
expect_fail 1 "is captured offline and alone" ambroctl capture "$scratch/source" "$scratch/other" --repo "$scratch/repo"
[[ ! -e $scratch/none && $(names | wc -l) == 1 ]] || fail "an image was made"
