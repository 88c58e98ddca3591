#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guardian is a program beside the agent's: without it the agent does not start; one that is exchanged under a running agent (an
# upgrade) is not used; with one that does not do its work nothing is frozen, and the capture fails.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/faults.sh"
require_root

truncate -s 100M "$scratch/source"
loop_make "$scratch/source"
fs_make ext4 "$loop"
mount_at "$loop" "$scratch/mnt"
some_files "$scratch/mnt" 3
built=$O
mkdir -p "$scratch/usr/sbin" "$scratch/usr/libexec/ambro"
cp "$built/ambrod" "$built/ambroctl" "$scratch/usr/sbin"
guardian=$scratch/usr/libexec/ambro/ambro-guardian

expect_fail 1 "ambro-guardian is neither beside this program nor in ../libexec/ambro" \
	timeout 120 "$scratch/usr/sbin/ambrod" --socket "$scratch/sock"

cp "$built/ambro-guardian" "$guardian"
O=$scratch/usr/sbin
agent_start
cp /bin/false "$guardian.new"
mv "$guardian.new" "$guardian"
ambroctl capture "$loop" -o "$scratch/image" --quiet || fail "another guardian was installed meanwhile, and a capture fails"
ambroctl verify "$scratch/image" >/dev/null
agent_stop

agent_start
expect_fail 1 "the guardian process ends when it is started" ambroctl capture "$loop" -o "$scratch/no"
[[ ! -e $scratch/no ]] || fail "an image was left"
writes_go_on "$scratch/mnt"
agent_stop
