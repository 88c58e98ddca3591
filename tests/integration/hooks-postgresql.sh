#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The example for PostgreSQL, in the sandbox of the installed ambrod.service: a server commits without pause, the hook makes a checkpoint
# as root, the live disk is captured and restored to another. A server started from the copy recovers, has every transaction that
# was acknowledged before the instant, and nothing newer.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/nspawn.sh"
require_root
require jq
bin=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
[[ $bin ]] || skip "PostgreSQL is not installed"
bin=${bin%/initdb}

truncate -s 300M "$scratch/copy"
loop_make "$scratch/copy"
copy=$loop
_machine_binds+=(--bind="$copy")
machine_disk 300
machine_make
install -m 755 "$machine/usr/share/ambro/hooks/postgresql.sh" "$machine/etc/ambro/hooks.d/50-postgresql"
machine_boot

# ---- words: the server that is mounted on DIR is reached by a socket in /run/DIR, the live one by the usual one --------
as_postgres() { inside setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
sockets() { [[ $1 == /live ]] && echo /run/postgresql || echo /run/postgresql-copy; }
# serve DIR: a server of its data directory.
serve() {
	inside install -d -o postgres -g postgres "$(sockets "$1")"
	inside systemd-run --quiet --unit="postgres-${1#/}" --uid=postgres --property=Type=notify --property=TimeoutStartSec=120 \
		--property=KillMode=mixed "$bin/postgres" -D "$1/data" -k "$(sockets "$1")" -c listen_addresses= -c max_wal_size=4GB \
		-c checkpoint_timeout=1h || fail "$(inside journalctl -b --no-pager -o cat -u "postgres-${1#/}")"
}
# sql DIR [psql options…]: from the options or stdin.
sql() { as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$(sockets "$1")" -d postgres "${@:2}"; }
# control DIR NAME: a value of pg_controldata.
control() { inside "$bin/pg_controldata" "$1/data" | sed -n "s/^$2: *//p"; }

inside mkdir /live /copy
inside mount "$loop" /live
inside install -d -m 700 -o postgres -g postgres /live/data
as_postgres "$bin/initdb" -D /live/data -A peer -N >/dev/null
serve /live
sql /live -c 'create table acknowledged (n int primary key, began timestamptz)'
inside systemctl start ambrod.socket

# ---- it has to know root, as the example says -----------------------------------------------------------

capture() { inside ambroctl capture "$loop" -o /srv/image.zst --json; }
agent_said() { inside journalctl -b --no-pager -o cat -u ambrod.service; }
expect_fail 1 "hook 50-postgresql freeze failed with exit status" capture
agent_said | finds 'role "root" does not exist' || fail "psql said something else: $(agent_said)"
as_postgres createuser root
if sql /live -c 'GRANT pg_checkpoint TO root' 2>/dev/null; then
	say "root may make a checkpoint, and no more"
else
	sql /live -c 'ALTER ROLE root SUPERUSER'
fi

# ---- commits, and a capture in the middle ----------------------------------------------------------------

# commits: one transaction after another; its number is printed when it was acknowledged, with the time then.
commits() {
	local n
	for ((n = 1; ; n++)); do
		printf 'insert into acknowledged values (%d, clock_timestamp());\n\\echo %d\n' "$n" "$n"
	done 2>/dev/null | sql /live | while IFS= read -r n; do printf '%d %s000\n' "$n" "${EPOCHREALTIME/./}"; done >"$scratch/acks"
}
commits &
client=$!
enough() { _has_lines "$scratch/acks" "$1"; }
wait_for 60 enough 200 || fail "it does not commit"
before=$(control /live "Latest checkpoint location")
capture >"$scratch/result" || fail "$(agent_said)"
jq -e '.hooks == 1 and .hooks_failed == 0' "$scratch/result" >/dev/null || fail "$(<"$scratch/result")"
wait_for 60 enough $(($(wc -l <"$scratch/acks") + 100)) || fail "it commits no more"
[[ $(control /live "Latest checkpoint location") != "$before" ]] || fail "the hook made no checkpoint"
inside systemctl kill --signal=KILL postgres-live.service
wait "$client" || : # it has lost its server

# ---- the copy ------------------------------------------------------------------------------------------

instant=$(manifest "$scratch/srv/image.zst" .instant_ns)
[[ $(manifest "$scratch/srv/image.zst" .guarantee) == filesystem-consistent ]] || fail "no instant"
inside ambroctl restore --yes /srv/image.zst "$copy" >/dev/null 2>&1 || fail "restore"
fs_check ext4 "$copy"
inside mount "$copy" /copy
[[ $(control /copy "Database cluster state") == "in production" ]] || fail "it was not running"
[[ $(control /copy "Latest checkpoint location") != "$before" ]] || fail "the checkpoint is not in the image"
serve /copy
sql /copy -c 'select n from acknowledged order by n' >"$scratch/there"
awk -v instant="$instant" '$2 <= instant { print $1 }' "$scratch/acks" >"$scratch/wanted"
say "acknowledged before the instant: $(wc -l <"$scratch/wanted"), in all: $(wc -l <"$scratch/acks"), in the image: $(wc -l <"$scratch/there")"
(($(wc -l <"$scratch/wanted") >= 200)) || fail "too few to prove anything"
lost=$(sort "$scratch/there" | comm -13 - <(sort "$scratch/wanted"))
[[ ! $lost ]] || fail "lost: $lost"
# clock_timestamp() has microseconds
newer=$(sql /copy -c "select count(*) from acknowledged where extract(epoch from began) * 1000000 > $((instant / 1000 + 1))")
((newer == 0)) || fail "$newer transactions began after the instant"
sql /copy -c 'create extension amcheck' -c "select bt_index_check('acknowledged_pkey', true)" >/dev/null ||
	fail "the index is not of the table"
inside systemctl stop postgres-copy.service
inside umount /copy /live
machine_off
