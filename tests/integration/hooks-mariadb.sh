#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The example for MariaDB, in the sandbox of the installed ambrod.service: a server writes a table of an engine that does not recover
# (MyISAM) and one that does, the hook's lock is held while the live disk is captured, writers wait and then go on. In the copy
# both tables are sound, have all that was acknowledged before the instant, and nothing newer.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/nspawn.sh"
require_root
require jq

truncate -s 400M "$scratch/copy"
loop_make "$scratch/copy"
copy=$loop
_machine_binds+=(--bind="$copy")
machine_disk 400
machine_make
[[ -x $machine/usr/sbin/mariadbd ]] || skip "MariaDB is not installed"
install -m 755 "$machine/usr/share/ambro/hooks/mariadb.sh" "$machine/etc/ambro/hooks.d/50-mariadb"
machine_boot

# serve DIR: a server of its data directory, at the usual socket.
serve() {
	inside systemd-run --quiet --unit="mariadb-${1#/}" --uid=nobody --property=Type=notify --property=TimeoutStartSec=120 \
		mariadbd --no-defaults --datadir="$1/data" --socket=/run/mysqld/mysqld.sock --skip-networking \
		--innodb-buffer-pool-size=32M --innodb-log-file-size=8M ||
		fail "$(inside journalctl -b --no-pager -o cat -u "mariadb-${1#/}")"
}
sql() { inside mariadb --batch --skip-column-names --unbuffered "$@"; }
agent_said() { inside journalctl -b --no-pager -o cat -u ambrod.service; }

inside mkdir /live /copy
inside mount "$loop" /live
inside install -d -m 700 -o nobody /live/data /run/mysqld
inside chmod 755 /run/mysqld
inside mariadb-install-db --no-defaults --user=nobody --datadir=/live/data --auth-root-authentication-method=socket \
	--auth-root-socket-user=root --skip-test-db &>"$scratch/install" || fail "$(<"$scratch/install")"
serve /live
sql -e 'create database t; create table t.plain (n int primary key, began bigint) engine=MyISAM;
	create table t.inno (n int primary key, began bigint) engine=InnoDB'
inside systemctl start ambrod.socket

# ---- writes, and a capture in the middle -----------------------------------------------------------------

# writes: a number that was acknowledged by both engines is printed, with the time then.
writes() {
	local n engine
	for ((n = 1; ; n++)); do
		for engine in plain inno; do
			printf 'insert into t.%s values (%d, unix_timestamp(sysdate(6)) * 1000000);\n' "$engine" "$n"
		done
		printf 'select %d;\n' "$n"
	done 2>/dev/null | sql 2>"$scratch/client" |
		while IFS= read -r n; do printf '%d %s000\n' "$n" "${EPOCHREALTIME/./}"; done >"$scratch/acks"
}
writes &
client=$!
enough() { _has_lines "$scratch/acks" "$1"; }
wait_for 60 enough 200 || fail "it does not write: $(<"$scratch/client")"
inside ambroctl capture "$loop" -o /srv/image.zst --json >"$scratch/result" || fail "$(agent_said)"
jq -e '.hooks == 1 and .hooks_failed == 0' "$scratch/result" >/dev/null || fail "$(<"$scratch/result") $(agent_said)"
wait_for 60 enough $(($(wc -l <"$scratch/acks") + 100)) || fail "it writes no more: the lock is still held"
inside systemctl kill --signal=KILL mariadb-live.service
wait "$client" || : # it has lost its server

# ---- the copy ------------------------------------------------------------------------------------------

instant=$(manifest "$scratch/srv/image.zst" .instant_ns)
inside ambroctl restore --yes /srv/image.zst "$copy" >/dev/null 2>&1 || fail "restore"
fs_check ext4 "$copy"
inside mount "$copy" /copy
serve /copy
# before anything opens it and repairs
sql -e 'check table t.plain fast; check table t.inno, t.plain extended' >"$scratch/check"
! grep -vP '\tstatus\tOK$|\tTable is already up to date$' "$scratch/check" >&2 || fail "not sound: $(<"$scratch/check")"
awk -v instant="$instant" '$2 <= instant { print $1 }' "$scratch/acks" | sort >"$scratch/wanted"
(($(wc -l <"$scratch/wanted") >= 200)) || fail "too few to prove anything"
for engine in plain inno; do
	sql -e "select n from t.$engine" | sort >"$scratch/there"
	say "$engine: acknowledged before the instant: $(wc -l <"$scratch/wanted"), in all: $(wc -l <"$scratch/acks"), in the image: $(wc -l <"$scratch/there")"
	lost=$(comm -13 "$scratch/there" "$scratch/wanted")
	[[ ! $lost ]] || fail "$engine: lost: $lost"
	newer=$(sql -e "select count(*) from t.$engine where began > $((instant / 1000 + 1))")
	((newer == 0)) || fail "$engine: $newer rows began after the instant"
done
inside systemctl stop mariadb-copy.service
inside umount /copy /live
machine_off
