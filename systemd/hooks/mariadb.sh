#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# MariaDB and MySQL: a global read lock from before the file systems stand still until they are thawed. InnoDB does not need it
# (the image shows one instant, and it recovers as after a power cut); tables of other engines (MyISAM, Aria without transactions) and
# changes of tables' definitions do.
#
# The lock lasts as long as the session that took it. So a client is left behind; its input is a sleep, whose end is the
# session's. That is the thaw, and if none should ever come, the lock ends with the sleep.
#
# It logs in as root by the socket (unix_socket, auth_socket); /root/.my.cnf may say otherwise.
set -eu
umask 077

state=/run/ambro/mariadb-$AMBRO_JOB
client=mariadb
command -v "$client" >/dev/null || client=mysql

# is_running PID NAME: and not only waits for being taken notice of.
is_running() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) && [[ $stat == *"($2"*") "[!Z]* ]]
}

# What the session reads. Its end is the session's.
statements() {
	printf 'SET SESSION lock_wait_timeout=%d; FLUSH TABLES WITH READ LOCK; SELECT "locked";\n' "$AMBRO_TIMEOUT"
	# longer than anybody waits for us, and than we are held
	sleep "$((AMBRO_TIMEOUT * 2 + 10))" &
	echo $! >"$state/sleep"
	wait $! 2>/dev/null || :
	# only a session that lives answers that, and only when it is the thaw that has ended the sleep
	[[ ! -e $state/thaw ]] || echo 'SELECT "held";'
}

freeze() {
	local session
	rm -rf "$state"
	mkdir -p "$state"
	statements 2>>"$state/errors" | "$client" --batch --skip-column-names --unbuffered --skip-reconnect \
		>"$state/answers" 2>>"$state/errors" &
	session=$!
	echo "$session" >"$state/session"
	# who waits too long is killed, with the session
	until grep -q locked "$state/answers"; do
		is_running "$session" "$client" || {
			cat "$state/errors"
			rm -rf "$state"
			echo "the tables are not locked"
			exit 1
		}
		sleep 0.1
	done
}

thaw() {
	local sleeper session i
	# the freeze failed, or was killed with all that it had begun
	[[ -s $state/session && -s $state/sleep ]] || return 0
	session=$(<"$state/session")
	sleeper=$(<"$state/sleep")
	: >"$state/thaw"
	! is_running "$sleeper" sleep || kill "$sleeper"
	for ((i = 0; i < 50; i++)); do
		is_running "$session" "$client" || break
		sleep 0.1
	done
	cat "$state/errors"
	grep -q held "$state/answers" || {
		rm -rf "$state"
		echo "the lock was lost before the thaw"
		exit 1
	}
	rm -rf "$state"
}

case $1 in
freeze | thaw) "$1" ;;
esac
