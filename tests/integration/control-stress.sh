#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Captures at once, of live disks and of a file, while others look at them, cancel them, and go away: the
# agent answers all the time, what was let end is whole, and nothing of the rest stays in the agent.
. "$(dirname "$0")/../lib/functions.sh"
require_root
require busctl

for n in 1 2; do
	truncate -s 128M "$scratch/disk$n"
	loop_make "$scratch/disk$n"
	fs_make ext4 "$loop"
	mount_at "$loop" "$scratch/mnt$n"
	head -c 24M /dev/urandom >"$scratch/mnt$n/random"
	declare "disk$n=$loop"
done
# shellcheck disable=SC2154 # declared above
sources=("$disk1" "$disk2" "$scratch/file")
head -c 32M /dev/urandom >"$scratch/file"
sync -f "$scratch/mnt1" "$scratch/mnt2"
noise_start "$scratch/mnt1" 2
agent_start

no_job() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
# what a capture uses: disks, mounts, rings, BPF objects, connections, outputs, guardians, threads
held() {
	find "/proc/$agent_pid/fd" -lname '/dev/loop*' -o -lname "$scratch/*" ! -lname "$agent_log" \
		-o -lname '*uring*' -o -lname '*bpf*' -o -lname 'pipe:*' -o -lname '*memfd*' -o -lname '*.zst*'
	find "/proc/$agent_pid/task" -mindepth 1 -maxdepth 1
	pgrep -P "$agent_pid" || :
}
holds_no_more() { (($(held | wc -l) <= before)); }
# one capture first: with its first thread begins one of a sanitizer's own
ambroctl capture "$scratch/file" -o /dev/null
wait_for 20 no_job || fail "a job goes on"
before=$(held | wc -l)

# For as long as $scratch/go exists. Whoever gets no answer leaves a file that says so.
looks_on() {
	while [[ -e $scratch/go ]]; do
		ambroctl status >/dev/null || echo "status: $?"
		ambroctl devices >/dev/null || echo "devices: $?"
		agent_call call ListJobs >/dev/null || echo "ListJobs: $?"
	done &>>"$scratch/unanswered"
}
# Some of these jobs have just ended, which is an error for the caller and nothing else.
cancels() {
	local job
	while [[ -e $scratch/go ]]; do
		for job in $(agent_call call ListJobs | grep -o '"[^"]*"' | tr -d '"' | tail -n 2); do
			agent_call call Cancel o "$job" &>/dev/null || :
			job_property "${job##*/}" BytesRead &>/dev/null || :
		done
		sleep 0.$((RANDOM % 5 + 1))
	done
}
# captures SOURCE NAME: to its end, killed, or by the agent alone.
captures() {
	local i=0 client
	while [[ -e $scratch/go ]]; do
		rm -f "$scratch/$2.zst"
		"$O/ambroctl" capture "$1" -o "$scratch/$2.zst" --max-freeze 5000 &>"$scratch/$2.log" &
		client=$!
		case $((i++ % 3)) in
		1)
			sleep 0.$((RANDOM % 4))
			kill -KILL "$client" 2>/dev/null || :
			;;
		2)
			rm -f "$scratch/$2.own.zst"
			agent_call call CaptureToFile 'sa{sv}s' "$1" 0 "$scratch/$2.own.zst" &>/dev/null || :
			;;
		esac
		wait "$client" 2>/dev/null || :
	done
}

touch "$scratch/go"
cleanup rm -f "$scratch/go"
players=()
for n in 0 1 2; do
	captures "${sources[n]}" "image$n" &
	players+=($!)
done
looks_on &
players+=($!)
cancels &
players+=($!)
sleep 6 # not a wait for anything: how long it is played
rm "$scratch/go"
wait "${players[@]}" || fail "a player stumbled"

wait_for 60 no_job || fail "jobs go on: $(agent_call call ListJobs)"
[[ ! -s $scratch/unanswered ]] || fail "not answered: $(sort "$scratch/unanswered" | uniq -c | head)"
whole=0
for image in "$scratch"/*.zst; do
	[[ -e $image ]] || continue
	# what has a name is whole, whoever was killed meanwhile
	ambroctl verify "$image" &>"$scratch/verify.log" || fail "$image: $(<"$scratch/verify.log")"
	whole=$((whole + 1))
done
jobs=$(grep -c 'ambrod: job [0-9]*: capture of .* for uid' "$agent_log") || :
say "$jobs jobs, $whole images"
((jobs > 3)) || fail "that was no stress"

wait_for 20 holds_no_more || fail "something is left: $(held), $(ls -l "/proc/$agent_pid/fd")"
for source in "${sources[@]}"; do
	ambroctl capture "$source" -o "$scratch/last.zst"
	ambroctl verify "$scratch/last.zst"
	rm "$scratch/last.zst"
done
kill "$agent_pid"
status=0
wait "$agent_pid" || status=$?
agent_pid=
((status == 0)) || fail "exit code $status after SIGTERM"
