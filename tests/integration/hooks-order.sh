#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hooks are called in the order of their names before a freeze, in reverse after it, once each, with what they need to know;
# what they say is in the log; files that are no hooks are left alone, and an offline capture calls none.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/hooks.sh"
require_root
require jq

truncate -s 200M "$scratch/source"
loop_make "$scratch/source"
source=$loop
fs_make ext4 "$source"
mount_at "$source" "$scratch/mnt"
some_files "$scratch/mnt" 5
agent_start "${hooks_env[@]}"

: >"$calls"
# shellcheck disable=SC2016 # the hook's own
hook_make 10-first 'echo "I was told $AMBRO_PHASE $AMBRO_JOB $AMBRO_SOURCE $AMBRO_MOUNTS"; env >'"$scratch/env"
hook_make 20-second
hook_make 30-third
hook_make .hidden
hook_make 15-off
chmod a-x "$hooks/15-off"
mkdir "$hooks/17-directory"
ambroctl capture "$source" -o "$scratch/image.zst" --json >"$scratch/result"
hooks_were "10-first freeze" "20-second freeze" "30-third freeze" "30-third thaw" "20-second thaw" "10-first thaw"
ambroctl verify "$scratch/image.zst" --quiet 2>/dev/null || ambroctl verify "$scratch/image.zst"
[[ $(manifest "$scratch/image.zst" .strategy) != offline ]] || fail "nothing was frozen"
jq -e '.hooks == 3 and .hooks_failed == 0' "$scratch/result" >/dev/null || fail "$(cat "$scratch/result")"
grep -F "hook 10-first freeze: I was told freeze 1 $source $scratch/mnt" "$agent_log" >/dev/null ||
	fail "what the hook said is not in the log"
for name in PATH HOME AMBRO_TIMEOUT; do
	grep -q "^$name=." "$scratch/env" || fail "the hook has no $name"
done
if grep -E '^(NOTIFY_SOCKET|AMBRO_HOOKS_DIR|AMBRO_SOCKET)=' "$scratch/env"; then fail "the hook has the agent's environment"; fi
[[ ! $(hooks_left) ]] || fail "left: $(hooks_left)"

# what a freeze had written is in the image, and what the thaw had written is not
hooks_clear
hook_make 1 "head -c 30M /dev/urandom >$scratch/mnt/of-\$1; sha256sum <$scratch/mnt/of-\$1 >$scratch/sum.\$1"
ambroctl capture "$source" -o "$scratch/image.zst" --force --json >"$scratch/result"
ambroctl restore "$scratch/image.zst" "$scratch/restored" --yes 2>/dev/null
loop_make "$scratch/restored"
fs_check ext4 "$loop"
mount_at "$loop" "$scratch/copy" -o ro
sha256sum <"$scratch/copy/of-freeze" | cmp - "$scratch/sum.freeze" || fail "what the hook wrote is not in the image"
[[ ! -e $scratch/copy/of-thaw && -e $scratch/mnt/of-thaw ]] || fail "the instant is not before the thaw"
umount_at "$scratch/copy"
say "passes: $(jq .passes "$scratch/result"), frozen for $(jq .freeze_us "$scratch/result") us"
hook_make 1

# none when they are switched off, or nothing is frozen
truncate -s 10M "$scratch/source.copy"
: >"$calls"
ambroctl capture "$source" -o "$scratch/image.zst" --force --quiet --hooks off
hooks_were
ambroctl capture "$scratch/source.copy" -o "$scratch/image.zst" --force --quiet
hooks_were
