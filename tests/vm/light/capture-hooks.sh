#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hooks around a snapshot: by dm and by kmod, once for a set of disks; the snapshot stands when they are thawed. A hook that fails leaves
# nothing of a snapshot; an agent that is killed while they are held has them thawed.
# vm-disks: 64M 64M 64M
# vm-modules: dm-snapshot
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../capture.sh"
. "$top/tests/lib/hooks.sh"

module_load
volume_make vol "${disks[0]}"
devices=(/dev/mapper/vol "${disks[1]}" "${disks[2]}")
for i in 0 1 2; do
	fs_make ext4 "${devices[i]}"
	mount_at "${devices[i]}" "$scratch/$i"
	made_files "$scratch/$i" 5
done
hook_make 1 "dmsetup ls >>$scratch/devices.\$1; printf '%s\n' \"\$AMBRO_SOURCE\" >$scratch/told"
hook_make 2
both=("1 freeze" "2 freeze" "2 thaw" "1 thaw")
agent_start "${hooks_env[@]}"

# hooked STRATEGY DEVICE
hooked() {
	rm -f "$calls" "$scratch"/devices.*
	ambroctl capture "$2" -o "$scratch/image" --force --json --strategy "$1" >"$scratch/job"
	check_equal "$1: hooks" 2 "$(jq .hooks "$scratch/job")"
	hooks_were "${both[@]}"
	finds '^ambro-.*snap' <"$scratch/devices.thaw" || fail "$1: no snapshot stood at the thaw: $(cat "$scratch/devices.thaw")"
	nothing_left "$scratch/0" "$scratch/1"
	ok "$1"
}
hooked dm "${devices[0]}"
hooked kmod "${devices[1]}"

rm -f "$calls"
ambroctl capture "${devices[1]}" "${devices[2]}" -o "$scratch/a" -o "$scratch/b" --quiet
hooks_were "${both[@]}"
check_equal "told of both" "${devices[1]} ${devices[2]}" "$(sort "$scratch/told" | xargs)"

rm -f "$calls"
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = thaw'
expect_fail 1 "hook 2 freeze failed with exit status 1" ambroctl capture "${devices[1]}" -o "$scratch/no"
hooks_were "${both[@]}"
[[ ! -e $scratch/no ]] || fail "an image is left"
nothing_left "$scratch/1"
ok "no snapshot after a failed hook"
hook_make 2
agent_stop

none_left() { [[ ! $(hooks_left) ]]; }
for step in hooked frozen on; do
	rm -f "$calls"
	agent_log=$scratch/agent-$step.log
	agent_start "${hooks_env[@]}" AMBRO_TEST_PAUSE="$step:100000"
	ambroctl capture "${devices[1]}" -o "$scratch/killed.img" --force &>/dev/null &
	wait_for 60 grep -q "^pause: $step" "$agent_log" || fail "the agent never came to $step: $(cat "$agent_log")"
	kill -9 "$agent_pid"
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
	goes_on "$scratch/1"
	wait_for 20 none_left || fail "$step: left: $(hooks_left)"
	hooks_were "${both[@]}"
	next_agent_cleans "$scratch/1"
	ok "killed at $step"
done
