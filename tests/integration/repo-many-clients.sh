#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Ten clients write to one repository at once while another lists and prunes: every image is whole, and what they have in common is
# stored about once.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq mke2fs debugfs e2fsck

clients=10
repo_make
agent_start
mkdir "$scratch/files"
some_files "$scratch/files" 24
mke2fs -qF -t ext4 -d "$scratch/files" "$scratch/base" 40M
for ((n = 0; n < clients; n++)); do
	cp --sparse=always "$scratch/base" "$scratch/disk.$n"
	head -c 700000 /dev/urandom >"$scratch/own.$n"
	debugfs -w -R "write $scratch/own.$n own" "$scratch/disk.$n" &>/dev/null
done

# one client: the agent has four jobs at most, so wait for a place
client() {
	local try
	for ((try = 0; try < 600; try++)); do
		ambroctl capture "$scratch/disk.$1" --host "host$1" --disk vda -q 2>"$scratch/err.$1" && return 0
		grep -q "captures are running" "$scratch/err.$1" || return 1
		sleep 0.2
	done
	return 1
}
pids=()
for ((n = 0; n < clients; n++)); do
	client "$n" &
	pids+=($!)
done
still_going() {
	local pid
	for pid in "${pids[@]}"; do
		kill -0 "$pid" 2>/dev/null && return 0
	done
	return 1
}
while still_going; do
	ambroctl list >/dev/null || fail "list"
	ambroctl prune >/dev/null 2>"$scratch/prune.err" || fail "prune: $(cat "$scratch/prune.err")"
	sleep 0.3
done
for ((n = 0; n < clients; n++)); do
	wait "${pids[n]}" || fail "client $n: $(cat "$scratch/err.$n")"
done

[[ $(names | wc -l) == "$clients" ]] || fail "$(names | wc -l) images"
for ((n = 0; n < clients; n++)); do
	restored "host$n/vda/latest" "$scratch/out"
	debugfs -R "dump own $scratch/got" "$scratch/out" &>/dev/null
	cmp "$scratch/got" "$scratch/own.$n" || fail "host$n is another"
	e2fsck -fn "$scratch/out" &>"$scratch/fsck" || fail "host$n: $(cat "$scratch/fsck")"
done
ambroctl repo check --read-data >/dev/null || fail "check"
say "$clients images of 40 MiB in $(repo_bytes) bytes"
