#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where stderr is the journal, captures and failed hooks are entries with the fields that docs/OPERATING.md names.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/hooks.sh"
require_root
require jq python3

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
all_are_there() {
	entry 01 "${about[@]}" PRIORITY=6 &&
		entry 06 "${about[@]}" AMBRO_HOOK=1 PRIORITY=4 &&
		entry 02 "${about[@]}" AMBRO_STRATEGY=precopy "AMBRO_BYTES_READ=[1-9][0-9]*" "AMBRO_BYTES_WRITTEN=[1-9][0-9]*" \
			"AMBRO_FREEZE_USEC=[0-9]+" "AMBRO_DURATION_MSEC=[0-9]+" &&
		entry 03 AMBRO_JOB=2 PRIORITY=3 "AMBRO_ERROR=hook 1 freeze failed with exit status 1"
}
wait_for 10 all_are_there || fail "the journal has: $(cat "$scratch/journal")"
[[ ! -s $agent_log ]] || fail "stderr has it too: $(cat "$agent_log")"
