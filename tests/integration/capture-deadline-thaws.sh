#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A freeze that would last longer than allowed ends at the deadline, and its capture fails and says why.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require jq

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 20
expedited=$(cat /sys/kernel/rcu_expedited)

agent_start AMBRO_TEST_PAUSE=frozen:1500
witness_start writer "$scratch/mnt" --rate 100
expect_fail any "thawed after 300 ms" timeout 120 "$O/ambroctl" \
	capture "$loop" -o "$scratch/image.zst" --max-freeze 300
cat "$scratch/expect.err" >&2
[[ ! -e $scratch/image.zst ]] || fail "an image was left"
wait_for 20 _has_lines "$scratch/writer.ack" $(($(wc -l <"$scratch/writer.ack") + 20)) ||
	fail "still frozen"
witness_stop writer
say "the writer saw: $(cat "$scratch/writer.json")"
jq -e '.worst_ms >= 250 and .worst_ms < 1200' "$scratch/writer.json" >/dev/null ||
	fail "the writer did not stand still for about 300 ms"
expedited_is_back() { [[ $(cat /sys/kernel/rcu_expedited) == "$expedited" ]]; }
wait_for 10 expedited_is_back || fail "rcu_expedited has changed"
