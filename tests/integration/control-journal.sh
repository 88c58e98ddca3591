#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where stderr is the journal, all that docs/OPERATING.md names is an entry with those fields: captures that are done, fail, are
# cancelled, failed hooks, callers who are refused; and of `ambroctl run` what it captures, forgets and prunes, or fails to.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
. "$(dirname "$0")/../lib/hooks.sh"
require_root
require jq python3 setpriv

socket=/run/systemd/journal/socket
[[ ! -e $socket ]] || skip "a journal is running: its entries are not ours to look at"
made=$([[ -d ${socket%/*} ]] || echo yes)
mkdir -p "${socket%/*}"
[[ ! $made ]] || cleanup rmdir -p --ignore-fail-on-non-empty "${socket%/*}"
cleanup rm -f "$socket"
# a journal of a kind: each entry is a line, its fields are parted by tabs
python3 -u - "$socket" >"$scratch/journal" <<'EOT' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(65536).decode().strip().replace("\n", "\t"))
EOT
cleanup _stop_quietly $!
wait_for 10 test -S "$socket" || fail "no socket"

truncate -s 60M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
hook_make 1 "exit 1"
: >"$agent_log"
agent_start "${hooks_env[@]}" "JOURNAL_STREAM=$(stat -c %d:%i "$agent_log")"
ambroctl capture "$source" -o "$scratch/image.zst" --quiet --hooks continue
expect_fail 1 "hook 1 freeze failed" "$O/ambroctl" capture "$source" -o "$scratch/no.zst"
# cancelled: it would take a minute
head -c 30M /dev/urandom >"$scratch/slow"
"$O/ambroctl" capture "$scratch/slow" -o "$scratch/no.zst" --limit-read 512K -q 2>/dev/null &
client=$!
has_job() { [[ $(agent_call get-property Jobs) == "u $1" ]]; }
wait_for 20 has_job 1 || fail "no job"
kill -INT "$client"
wait "$client" && fail "a cancelled capture is no success"
wait_for 20 has_job 0 || fail "the job goes on"
# refused
chmod 711 "$scratch"
cp "$O/ambroctl" "$scratch/ambroctl" # the build tree may not be nobody's to read
expect_fail 7 "only root" setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/ambroctl" status

# periodic ones
repo_make
mkdir "$scratch/conf"
# conf NAME SOURCE
conf() { printf '%s\n' "repository = $scratch/repo" "source = $2" "metrics = $scratch/prom" disk=d keep_last=2 prune=yes >"$scratch/conf/$1.conf"; }
conf good "$scratch/slow"
conf none "$scratch/none"
: >"$scratch/run.log"
stream=$(stat -c %d:%i "$scratch/run.log")
run() {
	JOURNAL_STREAM=$stream "$O/ambroctl" run --config-dir "$scratch/conf" "$@" >/dev/null 2>>"$scratch/run.log"
}
run good || fail "run: $(cat "$scratch/run.log")"
run none && fail "a run without a source is no success"
# a repair that was killed hinders the next prune
for ((n = 1; n < 40; n++)); do
	AMBRO_TEST_STORE_STEP=kill:$n ambroctl repo repair &>/dev/null || :
	! ambroctl prune &>/dev/null && break
done
((n < 40)) || fail "nothing hinders a prune"
sleep 1 # names have seconds
run good && fail "a run whose prune fails is no success"

# entry ID FIELD…: there is one with that MESSAGE_ID and fields that match.
entry() {
	local field line found
	while IFS= read -r line; do
		[[ $line == *"MESSAGE_ID=6f0cbb2a9e4d4c0ea2f1c40f6d5a7b$1"* ]] || continue
		found=yes
		for field in "${@:2}"; do
			grep -qE "(^|	)$field(	|$)" <<<"$line" || found=
		done
		[[ ! $found ]] || return 0
	done <"$scratch/journal"
	return 1
}
about=("AMBRO_SOURCE=$source" "AMBRO_JOB=1")
run=("AMBRO_CAPTURE=good" "AMBRO_REPOSITORY=$scratch/repo")
all_are_there() {
	entry 01 "${about[@]}" PRIORITY=6 &&
		entry 06 "${about[@]}" AMBRO_HOOK=1 PRIORITY=4 &&
		entry 02 "${about[@]}" AMBRO_STRATEGY=precopy "AMBRO_BYTES_READ=[1-9][0-9]*" "AMBRO_BYTES_WRITTEN=[1-9][0-9]*" \
			"AMBRO_FREEZE_USEC=[0-9]+" "AMBRO_DURATION_MSEC=[0-9]+" &&
		entry 03 AMBRO_JOB=2 PRIORITY=3 "AMBRO_ERROR=hook 1 freeze failed with exit status 1" &&
		entry 04 AMBRO_JOB=3 PRIORITY=6 "AMBRO_SOURCE=$scratch/slow" "AMBRO_BYTES_READ=[0-9]+" "AMBRO_DURATION_MSEC=[0-9]+" &&
		entry 05 PRIORITY=5 "MESSAGE=process [0-9]+ of uid 65534 is not allowed to talk to us" &&
		entry 21 "${run[@]}" PRIORITY=5 "AMBRO_IMAGE=$(uname -n)/d/.*" AMBRO_EXIT_CODE=0 &&
		entry 22 AMBRO_CAPTURE=none PRIORITY=3 AMBRO_EXIT_CODE=1 "AMBRO_ERROR=.*$scratch/none.*" &&
		entry 23 "${run[@]}" PRIORITY=6 "MESSAGE=forget of good is done" AMBRO_EXIT_CODE=0 &&
		entry 23 "${run[@]}" PRIORITY=6 "MESSAGE=prune of good is done" AMBRO_EXIT_CODE=0 &&
		entry 24 "${run[@]}" PRIORITY=3 "MESSAGE=.*prune.*" AMBRO_EXIT_CODE=6 "AMBRO_ERROR=.*repair.*"
}
wait_for 10 all_are_there || fail "the journal has: $(cat "$scratch/journal")"
[[ ! -s $agent_log ]] || fail "stderr has it too: $(cat "$agent_log")"
