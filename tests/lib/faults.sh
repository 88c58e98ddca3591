# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # $client_status is for the test; $agent_log is from functions.sh
#
# faults.sh - disks that fail, and agents that end where a test wants; sourced after functions.sh.

# fault_disk FILE [losetup options…]: $loop is a disk over FILE whose reads do as the lines of FILE.faults say
# (tool-faultdisk.c tells how).
declare -A _faultdisk=()
fault_disk() {
	local tool=$O/tests/lib/tool-faultdisk
	[[ -x $tool ]] || skip "$tool is not built"
	[[ -c /dev/fuse ]] || skip "there is no /dev/fuse"
	: >"$1.view"
	[[ -e $1.faults ]] || : >"$1.faults"
	"$tool" "$1" "$1.view" "$1.faults" 2>"$1.log" &
	_faultdisk[$1]=$!
	cleanup umount -l "$1.view"
	cleanup fault_disk_vanish "$1"
	wait_for 20 _same_size "$1" "$1.view" || fail "no FUSE: $(cat "$1.log")"
	loop_make "$1.view" "${@:2}"
}
_same_size() { [[ $(stat -c %s "$1") == "$(stat -c %s "$2")" ]]; }
# fault_disk_vanish FILE: from now on every read and write of it fails, as of a disk that was pulled out.
fault_disk_vanish() {
	kill -KILL "${_faultdisk[$1]}" 2>/dev/null || :
	wait "${_faultdisk[$1]}" 2>/dev/null || :
}

# capture_start SOURCE IMAGE [OPTION…]: a capture in the background, $client; its words are in IMAGE.log.
client=
capture_start() {
	"$O/ambroctl" capture "$1" -o "$2" "${@:3}" &>"$2.log" &
	client=$!
}
# capture_ends: $client_status is its exit code.
client_status=
capture_ends() {
	client_status=0
	wait "$client" || client_status=$?
}

# agent_start_pausing STEP: an agent that stops at that step (agent/pause.h) until agent_goes_on.
agent_start_pausing() {
	: >"$agent_log"
	rm -f "$scratch/go"
	agent_start "AMBRO_TEST_PAUSE=$1:60000" "AMBRO_TEST_GO=$scratch/go"
}
# agent_comes_to STEP: wait until it stands there.
agent_comes_to() {
	wait_for 60 _agent_was_at "$1" || fail "the agent never came to the step $1"
}
agent_goes_on() { : >"$scratch/go"; }
# agent_pauses_again: also at the next capture.
agent_pauses_again() {
	: >"$agent_log"
	rm -f "$scratch/go"
}
_agent_was_at() { grep -qxF "pause: $1" "$agent_log"; }

# agent_dies: by SIGKILL. No process of its own may outlive it for long.
agent_dies() {
	local children
	children=$(pgrep -P "$agent_pid" || :)
	kill -KILL "$agent_pid"
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
	# shellcheck disable=SC2086 # words
	wait_for 10 _all_gone $children || fail "still there after the agent: $(ps -o pid,args -p "${children//$'\n'/,}")"
}
_all_gone() {
	local p
	for p; do
		[[ ! -e /proc/$p ]] || return 1
	done
}
# agent_ends: by SIGTERM, in good order; tracking goes on.
agent_ends() {
	local status=0
	kill "$agent_pid"
	wait "$agent_pid" || status=$?
	agent_pid=
	((status == 0)) || fail "the agent ended with exit code $status"
}

# writes_go_on DIR: its file system is not frozen, and takes a new file.
writes_go_on() {
	# shellcheck disable=SC2016 # they are the inner shell's
	timeout 10 sh -c 'echo x >"$1/alive" && sync "$1/alive" && rm "$1/alive"' - "$1" ||
		fail "$1 stands still, or takes no writes"
}
# nobody_views DEVICE: no loop device (of a killed agent's tools) stands on it.
nobody_views() { ! losetup -nO BACK-FILE | finds -xF "$1"; }
