#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hook that fails, hangs, or cannot be trusted ends the capture before anything is frozen, or is told and borne, as
# was asked for. Whatever it does: each hook whose freeze was begun is thawed, once.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/hooks.sh"
require_root
require jq

truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 5
agent_start "${hooks_env[@]}"
image=$scratch/image.zst

# refused TEXT [OPTION…]: the capture fails, and nothing stood still.
refused() {
	expect_fail 1 "$1" "$O/ambroctl" capture "$source" -o "$image" "${@:2}"
	[[ ! -e $image ]] || fail "an image was left"
	[[ $(job_property "$job" Phase) != *freeze* ]] || fail "something was frozen"
	[[ ! $(hooks_left) ]] || fail "left: $(hooks_left)"
}
# borne FAILED
borne() {
	ambroctl capture "$source" -o "$image" --force --json --hooks continue "${@:2}" >"$scratch/result" ||
		fail "it did not go on"
	jq -e ".hooks_failed == $1" "$scratch/result" >/dev/null || fail "$(cat "$scratch/result")"
	[[ ! $(hooks_left) ]] || fail "left: $(hooks_left)"
	rm "$image"
}
job=1

# ---- fails ----
: >"$calls"
hook_make 1
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = thaw || { echo "the database is not there" >&2; exit 3; }'
hook_make 3
refused "hook 2 freeze failed with exit status 3"
hooks_were "1 freeze" "2 freeze" "2 thaw" "1 thaw"
grep -F "hook 2 freeze: the database is not there" "$agent_log" >/dev/null || fail "not logged"
: >"$calls"
borne 1
hooks_were "1 freeze" "2 freeze" "3 freeze" "3 thaw" "2 thaw" "1 thaw"
grep -F "warning: job 2: hook 2 freeze failed" "$agent_log" >/dev/null || fail "no warning"

# ---- ends by a signal, cannot be executed ----
hooks_clear
# shellcheck disable=SC2016 # the hook's own
hook_make 1 'kill -SEGV $$'
job=3 refused "hook 1 freeze was ended by signal 11"
hooks_were "1 freeze" "1 thaw"
hooks_clear
printf '#!/nowhere/to/be/found\n' >"$hooks/1"
chmod 755 "$hooks/1"
job=4 refused "hook 1 freeze failed with exit status 127"

# ---- hangs, with children that hang too: killed at its deadline ----
hooks_clear
hook_make 1
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = thaw || { sleep 4711 & sleep 4711; }'
began=$SECONDS
job=5 refused "hook 2 freeze took longer than 2 s and was killed" --hook-timeout 2
((SECONDS - began < 40)) || fail "took $((SECONDS - began)) s"
hooks_were "1 freeze" "2 freeze" "2 thaw" "1 thaw"
none_sleeps() { ! pgrep -f '^sleep 4711$' >/dev/null; }
wait_for 5 none_sleeps || fail "the hook's children live on"
: >"$calls"
borne 1 --hook-timeout 2
hooks_were "1 freeze" "2 freeze" "2 thaw" "1 thaw"

# ---- its thaw fails or hangs: told, and the others are thawed; the image is good ----
hooks_clear
hook_make 1
# shellcheck disable=SC2016 # the hook's own
hook_make 2 'test "$1" = freeze || exit 1'
# shellcheck disable=SC2016 # the hook's own
hook_make 3 'test "$1" = freeze || exec sleep 4711'
ambroctl capture "$source" -o "$image" --force --json --hook-timeout 2 >"$scratch/result"
jq -e '.hooks_failed == 2' "$scratch/result" >/dev/null || fail "$(cat "$scratch/result")"
hooks_were "1 freeze" "2 freeze" "3 freeze" "3 thaw" "2 thaw" "1 thaw"
ambroctl verify "$image" >/dev/null

# ---- not to be trusted ----
rm "$image"
hooks_clear
hook_make 1
hook_make 2
chmod o+w "$hooks/2"
job=8 refused "others than root may write to $hooks/2"
hooks_were "1 freeze" "1 thaw"
: >"$calls"
borne 1
hooks_were "1 freeze" "1 thaw"
chmod 775 "$hooks/2"
job=10 refused "others than root may write to $hooks/2"
chmod 755 "$hooks/2"
chown nobody "$hooks/2"
job=11 refused "$hooks/2 does not belong to root"
rm "$hooks/2"
ln -s /bin/true "$hooks/2"
job=12 refused "$hooks/2 is not a regular file"
rm "$hooks/2"
: >"$calls"
chmod 777 "$hooks"
job=13 refused "others than root may write to $hooks"
hooks_were
chmod 755 "$hooks"

# ---- a flood: the capture goes on, the log stays small ----
hooks_clear
hook_make 1 'yes "a line that is said again and again" | head -c 30000000; head -c 100000 /dev/zero'
before=$(stat -c %s "$agent_log")
ambroctl capture "$source" -o "$image" --quiet
(($(stat -c %s "$agent_log") - before < 100000)) || fail "the log has grown to $(stat -c %s "$agent_log") bytes"
grep -F "hook 1 freeze: … and " "$agent_log" >/dev/null || fail "it is not told that something was left out"

# ---- who is left behind by a freeze lives until the thaw ----
hooks_clear
# shellcheck disable=SC2016 # the hook's own
hook_make 1 'if test "$1" = freeze; then sleep 300 >/dev/null 2>&1 & echo $! >'"$scratch/holder"'; else kill $(cat '"$scratch/holder"') || exit 1; fi'
ambroctl capture "$source" -o "$image" --force --json >"$scratch/result"
jq -e '.hooks_failed == 0' "$scratch/result" >/dev/null || fail "the lock was not held until the thaw"
