#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# repo.sh - what a repository costs: what each operation asks of its store, a restore of the first and of the last image of a
# chain, and a repository of many TiB. Prints Markdown.
#
# REPO_SCALE_TIB (100: needs 90 MB of disk for each in $REPO_SCALE_DIR, /var/tmp), REPO_SCALE_CLIENTS (10), REPO_SCALE_FORGET
# (2: images that a prune deletes).
. "$(dirname "$0")/../lib/functions.sh"

tib=${REPO_SCALE_TIB:-100}
clients=${REPO_SCALE_CLIENTS:-10}
forget=${REPO_SCALE_FORGET:-2}
for p in repo-counts repo-scale slow-disk.so; do
	[[ -e $O/tests/bench/$p ]] || skip "$O/tests/bench/$p is not built"
done

printf '### What each operation asks of a store\n\n'
"$O/tests/bench/repo-counts"
printf '\n### Restore locality\n\n'
"$top/tests/bench/locality.sh"

printf '\n### Scale: %s TiB in chunks of 1 MiB\n\n' "$tib"
(($(free_mib "${REPO_SCALE_DIR:-/var/tmp}") > tib * 120)) || skip "$tib TiB need $((tib * 120)) MiB of space"
big=$(mktemp -d "${REPO_SCALE_DIR:-/var/tmp}/ambro-scale.XXXXXX")
cleanup rm -rf --one-file-system "$big"
scale() { "$O/tests/bench/repo-scale" "$1" "$big" "${@:2}"; }
say "made: $(scale make "$tib")"
for what in open list prune; do
	printf -- '- %s: %s\n' "$what" "$(scale "$what")"
done
printf -- '- a prune that deletes, the %s oldest images forgotten and one whose packs are half dead:\n' "$forget"
scale delete "$forget" >"$scratch/delete"
sed 's/^/  - /' "$scratch/delete"
# upon images that are still there; nobody could copy what they put
for what in increment known; do
	printf -- '- %s: %s\n' "$what" "$(scale "$what" $((tib - 1)))"
done
began=$EPOCHREALTIME
pids=()
for ((i = 0; i < clients; i++)); do
	scale increment $((forget + i % (tib - forget))) >"$scratch/client.$i" &
	pids+=($!)
done
for i in "${pids[@]}"; do
	wait "$i" || fail "a client failed"
done
printf -- '- %s clients at once, an increment each, all done in %.1f s:\n' "$clients" "$(bc <<<"$EPOCHREALTIME - $began")"
sed 's/^/  - /' "$scratch"/client.*
printf -- '- the new index of a prune that deletes packs: %s\n' "$(scale sweep)"
