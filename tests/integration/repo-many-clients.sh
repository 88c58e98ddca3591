#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Ten machines, each with an agent of its own, write to one repository at once while another one lists and prunes: none has committed
# before all ten have their whole disk on the way, and then all do. Every image is whole. As none could know of the others, what they
# have in common may be there ten times; the next prune leaves it once. Their increments, at once too, store what is their own.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require jq mke2fs debugfs e2fsck
[[ -x $O/ambrod && -x $O/ambroctl ]] || skip "$O/ambrod and ambroctl are not built"

clients=10
# what a client may cost beside what all have in common: 200 kB of random bytes, which lie in three chunks of 128 KiB at most, beside
# those that it had; and what ext4 notes of them in others
own=$((3 << 18))
repo_make
mkdir "$scratch/files"
some_files "$scratch/files" 24
mke2fs -qF -t ext4 -d "$scratch/files" "$scratch/base" 40M

# new_own N NAME: a file of its own for that client.
new_own() {
	head -c 200000 /dev/urandom >"$scratch/$2.$1"
	debugfs -w -R "write $scratch/$2.$1 $2" "$scratch/disk.$1" &>/dev/null
}
agent_is_up() { AMBRO_SOCKET=$scratch/sock.$1 "$O/ambroctl" status &>/dev/null; }
for ((n = 0; n < clients; n++)); do
	cp --sparse=always "$scratch/base" "$scratch/disk.$n"
	new_own "$n" first
	env AMBRO_TEST_PAUSE=written:300000 AMBRO_TEST_GO="$scratch/go" "$O/ambrod" --socket "$scratch/sock.$n" \
		>"$scratch/agent.$n" 2>&1 &
	cleanup _stop_quietly $!
done
for ((n = 0; n < clients; n++)); do
	wait_for 20 agent_is_up "$n" || fail "agent $n does not answer: $(cat "$scratch/agent.$n")"
done

# one alone, elsewhere: what all have in common, and its own
touch "$scratch/go"
ambroctl repo init --repo "$scratch/alone" >/dev/null
AMBRO_SOCKET=$scratch/sock.0 ambroctl capture "$scratch/disk.0" --repo "$scratch/alone" -q
alone=$(AMBRO_REPOSITORY=$scratch/alone repo_bytes)
((alone > own * clients)) || fail "$alone bytes in common are too few to be told from $clients times $own"

still_going() {
	local pid
	for pid in "${pids[@]}"; do
		kill -0 "$pid" 2>/dev/null && return 0
	done
	return 1
}
all_have_sent() {
	local n
	for ((n = 0; n < clients; n++)); do
		kill -0 "${pids[n]}" 2>/dev/null || fail "client $n has ended: $(cat "$scratch/err.$n")"
		(($(grep -c '^pause: written' "$scratch/agent.$n") > paused[n])) || return 1
	done
}
# at_once KIND: an image of each; while they commit, another one looks and prunes. KIND is what each has to be.
at_once() {
	local n had
	pids=() paused=()
	had=$(names | wc -l)
	rm "$scratch/go"
	for ((n = 0; n < clients; n++)); do
		paused[n]=$(grep -c '^pause: written' "$scratch/agent.$n" || :)
		AMBRO_SOCKET=$scratch/sock.$n "$O/ambroctl" capture "$scratch/disk.$n" --host "host$n" --disk vda --json \
			>"$scratch/taken.$n" 2>"$scratch/err.$n" &
		pids+=($!)
	done
	wait_for 120 all_have_sent || fail "not all of them came so far"
	[[ $(names | wc -l) == "$had" ]] || fail "one has committed alone"
	touch "$scratch/go"
	while still_going; do
		ambroctl list >/dev/null || fail "list"
		ambroctl prune >/dev/null 2>"$scratch/prune.err" || fail "prune: $(cat "$scratch/prune.err")"
		sleep 0.3
	done
	for ((n = 0; n < clients; n++)); do
		wait "${pids[n]}" || fail "client $n: $(cat "$scratch/err.$n")"
		[[ $(jq -r .increment "$scratch/taken.$n") == "$1" ]] || fail "client $n: $(cat "$scratch/taken.$n")"
	done
	(($(names | wc -l) == had + clients)) || fail "$(names | wc -l) images"
}

# all_are_whole FILE…: the newest of each has these, and what was there before.
all_are_whole() {
	local n name
	for ((n = 0; n < clients; n++)); do
		restored "host$n/vda/latest" "$scratch/out"
		for name; do
			debugfs -R "dump $name $scratch/got" "$scratch/out" &>/dev/null
			cmp "$scratch/got" "$scratch/$name.$n" || fail "host$n: $name is another"
		done
		e2fsck -fn "$scratch/out" &>"$scratch/fsck" || fail "host$n: $(cat "$scratch/fsck")"
	done
	ambroctl repo check --read-data >/dev/null || fail "check"
}

# pruned: nobody else writes now. What was copied is deleted by the second one.
pruned() {
	ambroctl prune --grace 0 >/dev/null
	ambroctl prune --grace 0 >/dev/null
	say "after a prune: $(repo_bytes) bytes"
}

at_once full
say "$clients images of 40 MiB, $alone bytes each by itself, in $(repo_bytes) bytes"
all_are_whole first
pruned
once=$(repo_bytes)
((once < alone + clients * own)) || fail "what they have in common is there more than once"
all_are_whole first

for ((n = 0; n < clients; n++)); do
	new_own "$n" second
done
sleep 1 # names have seconds
at_once compared
added=$(jq -s 'map(.new_bytes) | add' "$scratch"/taken.?)
say "$clients increments added $added bytes"
((added < clients * own)) || fail "increments stored what was there"
pruned
(($(repo_bytes) < once + clients * own)) || fail "what they have in common is there more than once"
all_are_whole first second
