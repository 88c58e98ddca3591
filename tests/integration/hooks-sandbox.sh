#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hooks in the sandbox of ambrod.service, as it is installed, under a systemd that is PID 1 (of a container): they are called, one that
# fails ends the capture, what docs/OPERATING.md says that they can do there is what they can, also where it is loosened, and when
# everything of the unit is killed while file systems stand still, all is thawed all the same.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/nspawn.sh"
require_root
require jq python3 perl

machine_disk 100
machine_make

# hook NAME: an executable in hooks.d, from stdin. unit NAME: of the machine's.
hook() {
	cat >"$machine/etc/ambro/hooks.d/$1"
	chmod 755 "$machine/etc/ambro/hooks.d/$1"
}
unit() {
	mkdir -p "$(dirname "$machine/etc/systemd/system/$1")"
	cat >"$machine/etc/systemd/system/$1"
}
# noting NAME [COMMAND]: a hook that notes its calls in /run/ambro, and then runs COMMAND ($1: its phase).
# shellcheck disable=SC2016 # the hook's own
noting() { printf '#!/bin/sh\necho "%s $1" >>/run/ambro/calls\n%s\n' "$1" "${2:-}" | hook "$1"; }
calls_were() {
	printf '%s\n' "$@" | cmp -s - <(inside cat /run/ambro/calls) ||
		fail "the hooks were called: $(inside cat /run/ambro/calls)"
	inside rm /run/ambro/calls
}
both=("10-first freeze" "20-last freeze" "20-last thaw" "10-first thaw")
capture() { inside ambroctl capture "$loop" -o /srv/image.zst --force --json "$@"; }
agent_said() { inside journalctl -b --no-pager -o cat -u ambrod.service; }
# overridden LINES: of the unit.
overridden() {
	unit ambrod.service.d/override.conf <<<"[Service]
$1"
	inside systemctl daemon-reload
	inside systemctl restart ambrod.service
}

# what is tried: a line for each that works
hook 10-tries <<'TRIES'
#!/bin/bash
tries=/run/ambro/tries.$1
: >"$tries"
try() {
	local out
	if out=$("${@:2}" 2>&1); then echo "$1" >>"$tries"; else echo "no $1: $out"; fi
}
python() { try "$1" python3 -c "import mmap, socket; $2"; }
connect() { python "$1" "socket.socket(socket.AF_$2).connect($3)"; }

connect "unix socket" UNIX "'/run/answer.sock'"
connect "abstract socket" UNIX "'\0answer'"
connect "localhost" INET "('127.0.0.1', 4711)"
try "systemctl" systemctl start beside.service
try "read others' files" cat /srv/others
try "read root's home" cat /root/.my.cnf
try "read a home" cat /home/somebody/.pgpass
for dir in /run/ambro /var/lib/ambro /run/lock /tmp /var/tmp /etc /root /home/somebody /srv /data; do
	try "write $dir" touch "$dir/of-hook.$$"
	rm -f "$dir/of-hook.$$" 2>/dev/null
done
sleep 60 >/dev/null 2>&1 &
try "kill root's" kill $!
try "kill others'" kill -0 "$(cat /srv/others-pid)"
try "be another user" runuser -u nobody -- true
try "perl" perl -e 'exit 0'
python "python" pass
python "just in time" "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
TRIES
documented=("unix socket" systemctl "read others' files" "read root's home" "read a home" "write /run/ambro" "write /var/lib/ambro"
	"write /run/lock" "kill root's" perl python)
# tried WORKS…: these, and nothing else.
tried() {
	local phase
	for phase in freeze thaw; do
		inside sort "/run/ambro/tries.$phase" >"$scratch/tries"
		printf '%s\n' "$@" | sort | diff - "$scratch/tries" >&2 || fail "$phase: $(agent_said | grep ': no ')"
	done
	inside rm /run/ambro/tries.freeze /run/ambro/tries.thaw
}

for socket in unix:/run/answer.sock abstract:@answer inet:127.0.0.1:4711; do
	unit "answer-${socket%%:*}.socket" <<<"[Socket]
ListenStream=${socket#*:}
Service=answer.service"
done
unit answer.service <<<"[Service]
ExecStart=sleep infinity"
unit beside.service <<<"[Service]
Type=oneshot
ExecStart=touch /data/beside"
unit others.service <<<"[Service]
User=nobody
Type=exec
ExecStart=sleep infinity"
machine_boot
inside mkdir -p /data /home/somebody
inside mount "$loop" /data
some_files "$scratch/files" 5
cp -a "$scratch/files" "$scratch/srv/"
inside cp -a /srv/files /data/
inside sh -c 'touch /srv/others /root/.my.cnf /home/somebody/.pgpass && chmod 600 /srv/others /home/somebody/.pgpass &&
	chown -R nobody /srv/others /home/somebody'
inside systemctl start ambrod.socket answer-unix.socket answer-abstract.socket answer-inet.socket others.service
inside systemctl show -P MainPID others.service >"$scratch/srv/others-pid"

# ---- called, and what the table says ------------------------------------------------------------------

noting 20-last
capture >"$scratch/result" || fail "$(agent_said)"
jq -e '.hooks == 2 and .hooks_failed == 0' "$scratch/result" >/dev/null || fail "$(<"$scratch/result")"
calls_were "20-last freeze" "20-last thaw"
tried "${documented[@]}"
inside test -e /data/beside || fail "a unit beside cannot write"
ambroctl verify "$scratch/srv/image.zst" >/dev/null

# ---- loosened as is said there ------------------------------------------------------------------------

# loosened LINES [WORKS…]: what works with these lines more than without.
loosened() {
	overridden "$1"
	capture >"$scratch/result" || fail "$1: $(agent_said)"
	calls_were "20-last freeze" "20-last thaw"
	tried "${documented[@]}" "${@:2}"
}
loosened 'PrivateNetwork=no
IPAddressDeny=
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6' localhost "abstract socket"
loosened 'CapabilityBoundingSet=CAP_SETUID CAP_SETGID' "be another user"
loosened 'ReadWritePaths=/data' "write /data"
# what else does not work fails for the reason that the table gives
loosened 'CapabilityBoundingSet=CAP_KILL
MemoryDenyWriteExecute=no' "kill others'" "just in time"
overridden ''

# ---- one that fails -----------------------------------------------------------------------------------

inside rm /etc/ambro/hooks.d/10-tries /srv/image.zst
noting 10-first
# shellcheck disable=SC2016 # the hook's own
noting 20-last 'test "$1" = thaw || { echo "the database is not there" >&2; exit 3; }'
expect_fail 1 "hook 20-last freeze failed with exit status 3" capture
[[ ! -e $scratch/srv/image.zst ]] || fail "an image was left"
calls_were "${both[@]}"
inside journalctl -b --no-pager -o json MESSAGE_ID=6f0cbb2a9e4d4c0ea2f1c40f6d5a7b06 >"$scratch/entry"
jq -se --arg source "$loop" 'length == 1 and (.[0] | .AMBRO_HOOK == "20-last" and .AMBRO_SOURCE == $source and
	._SYSTEMD_UNIT == "ambrod.service")' "$scratch/entry" >/dev/null || fail "the journal's entry: $(<"$scratch/entry")"
inside journalctl -b --no-pager -o cat AMBRO_HOOK=20-last | finds "the database is not there" ||
	fail "what it said is not in the journal"
capture --hooks continue >"$scratch/result" || fail "it did not go on: $(agent_said)"
jq -e '.hooks_failed == 1' "$scratch/result" >/dev/null || fail "$(<"$scratch/result")"
calls_were "${both[@]}"

# ---- all of the unit is killed while all is frozen ---------------------------------------------------------

noting 20-last
overridden Environment=AMBRO_TEST_PAUSE=frozen:120000
capture --max-freeze 60000 &>/dev/null &
client=$!
stands() { agent_said | finds '^pause: frozen'; }
wait_for 60 stands || fail "it does not freeze: $(agent_said)"
never_stuck() { [[ ! $machine_pid ]] || inside fsfreeze -u /data 2>/dev/null; }
cleanup never_stuck
inside touch /data/now &
writer=$!
sleep 0.5
kill -0 "$writer" || fail "the file system is not frozen"
# the guardian too, unless it is quicker: what is left to do is left to systemd, which runs ambrod --recover
inside systemctl kill -s KILL ambrod.service
began=$SECONDS
wrote() { ! kill -0 "$writer" 2>/dev/null; }
wait_for 20 wrote || fail "it stays frozen: $(agent_said)"
say "thawed after $((SECONDS - began)) s"
! wait "$client" || fail "the capture is said to be good"
none_left() { [[ ! $(inside find /run/ambro -name 'hooks-*') ]]; }
wait_for 20 none_left || fail "left: $(inside find /run/ambro -name 'hooks-*') $(agent_said)"
# a thaw that was killed, too, is begun again, whether or not it came to note its call
inside cat /run/ambro/calls | uniq | cmp -s - <(printf '%s\n' "${both[@]}") || fail "the hooks were called: $(inside cat /run/ambro/calls)"
inside rm /run/ambro/calls
agent_said | finds "called [12] hooks to thaw" || fail "who thawed? $(agent_said)"
is_back() { [[ $(inside systemctl is-active ambrod.service) == active ]]; }
wait_for 20 is_back || fail "the agent is not started again"
inside umount /data
machine_off
fs_check ext4 "$loop"
