#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Periodic captures as they are installed, under a systemd that is PID 1 (of a container): the timer fires, the socket
# starts the agent, a live disk's images arrive, credentials open an encrypted repository, a stop in the middle leaves nothing,
# what was missed while the machine was off is made up for, and only root and the group ambro may call. The examples of units work as
# they are: a failure sends mail, and the repository is looked after.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
. "$top/tests/lib/nspawn.sh"
require_root
require busctl setpriv jq

# ---- the machine -----------------------------------------------------------------------------------

machine_disk 200
machine_make

# conf NAME: of a capture, from stdin.
conf() { cat >"$machine/etc/ambro/captures.d/$1.conf"; }
# drop_in UNIT: from stdin.
drop_in() {
	mkdir -p "$machine/etc/systemd/system/$1.d"
	cat >"$machine/etc/systemd/system/$1.d/test.conf"
}
conf test <<<"repository = /srv/ambro
source = $loop
disk = data
tags = nightly
keep_last = 2
prune = yes"
# an hour's random delay is what a test cannot wait for
drop_in ambro-capture@test.timer <<<"[Timer]
RandomizedDelaySec=0
AccuracySec=1s"
machine_boot

# unit_says UNIT: its journal since boot. result_of UNIT: success, exit-code, …
unit_says() { inside journalctl -b --no-pager -o cat -u "$1"; }
result_of() { inside systemctl show -P Result "$1"; }
# images REPOSITORY [options…]: their names, one a line.
images() { inside ambroctl list --json --repo "$@" | jq -r '.[].name'; }
n_images() { images "$@" | wc -l; }
has_images() { (($(n_images "$2") == $1)); }
metric() { sed -n "s/^ambro_capture_$2{.*} //p" "$machine/var/lib/ambro/metrics/$1.prom"; }
agent_property() { inside busctl --address=unix:path=/run/ambro/control.sock get-property org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 "$1"; }

# ---- units are right -------------------------------------------------------------------------------

inside systemd-analyze --man=no verify ambrod.service ambrod.socket ambro-capture@test.service ambro-capture@test.timer \
	>"$scratch/verify" 2>&1 || fail "$(<"$scratch/verify")"
[[ ! -s $scratch/verify ]] || fail "$(<"$scratch/verify")"
inside cp /usr/share/doc/ambro/examples/ambro-tend.service /usr/share/doc/ambro/examples/ambro-tend.timer \
	/usr/share/doc/ambro/examples/ambro-failed@.service /run/systemd/system/
inside systemd-analyze --man=no verify ambro-tend.timer ambro-tend.service ambro-failed@x.service >"$scratch/verify" 2>&1 ||
	fail "$(<"$scratch/verify")"
conf example <"$machine/usr/share/doc/ambro/examples/capture.conf"
inside ambroctl run --check example >/dev/null || fail "the example is wrong"
for limit in ambro-capture@test.service:10 ambrod.service:30; do
	inside systemd-analyze security --no-pager --threshold="${limit#*:}" "${limit%:*}" >"$scratch/security" ||
		fail "$(grep -E '✗|→' "$scratch/security")"
	tail -n 1 "$scratch/security" >&2
done
[[ $(inside stat -c '%a %U' /etc/credstore /var/lib/ambro/metrics | tr '\n' ' ') == "700 root 755 root " ]] ||
	fail "tmpfiles: $(inside stat -c '%a %U' /etc/credstore /var/lib/ambro/metrics)"

# ---- the timer fires, and all else follows ---------------------------------------------------------

inside systemctl enable --now ambrod.socket
[[ $(inside systemctl is-active ambrod.service || :) == inactive ]] || fail "the agent runs before anybody came"
mkdir "$machine/data"
inside mount "$loop" /data
some_files "$scratch/files" 20
cp -a "$scratch/files" "$scratch/srv/"
inside cp -a /srv/files /data/
inside mkdir -m 700 /srv/ambro
inside ambroctl repo init --repo /srv/ambro >/dev/null
drop_in ambro-capture@test.timer <<<"[Timer]
RandomizedDelaySec=0
AccuracySec=1s
OnActiveSec=1s"
inside systemctl daemon-reload
inside systemctl enable --now ambro-capture@test.timer
wait_for 60 has_images 1 /srv/ambro || fail "the timer has brought no image: $(unit_says ambro-capture@test)"
is_done() { [[ $(inside systemctl show -P ActiveState ambro-capture@test) == inactive ]]; }
wait_for 60 is_done || fail "the unit does not end"
[[ $(result_of ambro-capture@test) == success ]] || fail "$(unit_says ambro-capture@test)"
[[ $(inside systemctl is-active ambrod.service) == active ]] || fail "the socket has not started the agent"
# each daemon-reload lets it fire once more
inside systemctl stop ambro-capture@test.timer
first=$(images /srv/ambro)
[[ $first == */data/* ]] || fail "the image is called $first"
guarantee=$(inside ambroctl list --json --repo /srv/ambro | jq -r '.[0].guarantee')
if [[ $(agent_property Capabilities) == *'"tracker" b true'* ]]; then
	[[ $guarantee == filesystem-consistent ]] || fail "a live disk's image is $guarantee"
fi

# what it says of itself
inside journalctl --no-pager -o json AMBRO_IMAGE="$first" MESSAGE_ID=6f0cbb2a9e4d4c0ea2f1c40f6d5a7b21 >"$scratch/entry"
jq -e --arg image "$first" '.AMBRO_CAPTURE == "test" and .AMBRO_IMAGE == $image and .AMBRO_REPOSITORY == "/srv/ambro" and
	.AMBRO_INCREMENT == "full" and .AMBRO_EXIT_CODE == "0" and (.AMBRO_NEW_BYTES | tonumber) > 1000000 and
	(.AMBRO_READ_BYTES | tonumber) > 1000000 and ._SYSTEMD_UNIT == "ambro-capture@test.service"' "$scratch/entry" >/dev/null ||
	fail "the journal's entry: $(<"$scratch/entry")"
[[ $(metric test exit_code) == 0 ]] || fail "metrics: $(cat "$machine/var/lib/ambro/metrics/test.prom")"
[[ $(find "$machine/var/lib/ambro/state" -type f -path '*/image/*') ]] || fail "nothing is kept of the last image"
(($(metric test last_success_timestamp_seconds) > EPOCHSECONDS - 120)) || fail "last success?"
(($(metric test new_bytes) > 1000000)) || fail "new bytes?"
inside_as 65534 65534 cat /var/lib/ambro/metrics/test.prom >/dev/null || fail "a collector cannot read the metrics"

# increments, and what is to be kept
for _ in 1 2; do
	inside touch /data/more
	sleep 1 # an image's name has seconds
	inside systemctl start ambro-capture@test.service || fail "$(unit_says ambro-capture@test)"
done
has_images 2 /srv/ambro || fail "keep_last = 2, and there are: $(images /srv/ambro)"
[[ $(images /srv/ambro) != *"$first"* ]] || fail "the oldest was kept"
# by systemd: no folder of another user's, no network, no capability was needed
[[ $(metric test exit_code) == 0 ]] || fail "exit code"
grep -q 'kind="full"} 0' "$machine/var/lib/ambro/metrics/test.prom" || fail "the third is no increment"

# ---- who may --------------------------------------------------------------------------------------

gid=$(inside getent group ambro | cut -d: -f 3)
inside_as 65534 "$gid" ambroctl status >/dev/null || fail "a member of the group ambro may not ask"
expect_fail 7 "" inside_as 65534 65534 ambroctl status
expect_fail any "Access denied" inside_as 65534 65534 busctl --address=unix:path=/run/ambro/control.sock \
	get-property org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 Jobs

# ---- credentials ----------------------------------------------------------------------------------

echo "a long secret for tests" >"$scratch/passphrase"
install -m 600 "$scratch/passphrase" "$machine/root/passphrase"
inside ambroctl repo init --encrypt --repo /srv/ambro-secret --passphrase-file /root/passphrase >/dev/null
conf secret <<<"repository = /srv/ambro-secret
source = $loop
disk = data"
drop_in ambro-capture@secret.service <<<"[Unit]
RequiresMountsFor=/srv
[Service]
ReadWritePaths=/srv/ambro-secret"
inside systemctl daemon-reload
expect_fail any "" inside systemctl start ambro-capture@secret.service
unit_says ambro-capture@secret | finds "is encrypted" || fail "without a key: $(unit_says ambro-capture@secret)"
[[ $(metric secret exit_code) == 7 ]] || fail "without a key the exit code is $(metric secret exit_code)"
install -m 600 "$scratch/passphrase" "$machine/etc/credstore/ambro.secret.passphrase"
inside systemctl start ambro-capture@secret.service || fail "with a credential: $(unit_says ambro-capture@secret)"
[[ $(metric secret exit_code) == 0 ]] || fail "with a credential the exit code is $(metric secret exit_code)"
[[ $(inside ambroctl list --json --repo /srv/ambro-secret --passphrase-file /root/passphrase | jq length) == 1 ]] ||
	fail "no image in the encrypted repository"

# by a key of its own, which may only add
inside sh -c 'umask 077; ambroctl key generate /etc/credstore/ambro.bykey.key >/root/bykey.pub' || fail "key generate"
inside ambroctl key add --repo /srv/ambro-secret --passphrase-file /root/passphrase --recipient /root/bykey.pub --write-only >/dev/null
conf bykey <<<"repository = /srv/ambro-secret
source = $loop
host = bykey"
drop_in ambro-capture@bykey.service <"$machine/etc/systemd/system/ambro-capture@secret.service.d/test.conf"
inside systemctl daemon-reload
inside systemctl start ambro-capture@bykey.service || fail "with a key: $(unit_says ambro-capture@bykey)"
[[ $(images /srv/ambro-secret --passphrase-file /root/passphrase --host bykey | wc -l) == 1 ]] || fail "no image by the key"

# ---- the repository is looked after ---------------------------------------------------------------

# tended REPOSITORY: ambro-tend.service has gone through all three: the rules, the prune, the check.
tended() {
	inside systemctl start ambro-tend.service || fail "ambro-tend of $1: $(unit_says ambro-tend)"
	[[ $(result_of ambro-tend) == success ]] || fail "ambro-tend of $1: $(result_of ambro-tend)"
	[[ $(inside systemctl show -P ExecStart ambro-tend | grep -c 'status=0') == 3 ]] ||
		fail "ambro-tend has not run all: $(inside systemctl show -P ExecStart ambro-tend)"
}
kept=$(images /srv/ambro | tail -n 1)
tended /srv/ambro
[[ $(images /srv/ambro) == "$kept" ]] || fail "one image a day is kept, and there are: $(images /srv/ambro): $(unit_says ambro-tend)"
# an encrypted one, by its credential
drop_in ambro-tend.service <<<"[Service]
Environment=AMBRO_REPOSITORY=/srv/ambro-secret
ReadWritePaths=/srv/ambro-secret"
inside systemctl daemon-reload
expect_fail any "" inside systemctl start ambro-tend.service
unit_says ambro-tend | finds "is encrypted" || fail "without a key: $(unit_says ambro-tend)"
inside sh -c 'umask 077; ambroctl key generate /etc/credstore/ambro-tend.key >/root/tend.pub' || fail "key generate"
inside ambroctl key add --repo /srv/ambro-secret --passphrase-file /root/passphrase --recipient /root/tend.pub >/dev/null
tended /srv/ambro-secret

# a repository that the unit does not name
conf outside <<<"repository = /opt/ambro
source = $loop"
inside ambroctl repo init --repo /opt/ambro >/dev/null
expect_fail any "" inside systemctl start ambro-capture@outside.service
unit_says ambro-capture@outside | finds "ReadWritePaths=/opt/ambro" || fail "no hint: $(unit_says ambro-capture@outside)"

# ---- a stop in the middle, and a failure ------------------------------------------------------------

inside dd if=/dev/urandom of=/data/noise bs=1M count=40 status=none conv=fsync
conf slow <<<"repository = /srv/ambro
source = $loop
host = slow
limit_read = 1M"
inside systemctl start --no-block ambro-capture@slow.service
has_job() { [[ $(agent_property Jobs) == "u $1" ]]; }
wait_for 20 has_job 1 || fail "no job: $(unit_says ambro-capture@slow)"
sleep 2
inside systemctl stop ambro-capture@slow.service
[[ $(result_of ambro-capture@slow) == success ]] || fail "a stop is $(result_of ambro-capture@slow): $(unit_says ambro-capture@slow)"
has_job 0 || fail "a job is left"
[[ ! $(images /srv/ambro --host slow) ]] || fail "an image is left"
[[ $(metric slow exit_code) == 130 ]] || fail "the exit code is $(metric slow exit_code)"
[[ ! $(find "$scratch/srv/ambro/tmp" -type f 2>/dev/null) ]] || fail "left: $(find "$scratch/srv/ambro/tmp" -type f)"

conf broken <<<"repository = /srv/ambro
source = /dev/none"
drop_in ambro-capture@.service <<<"[Unit]
OnFailure=ambro-failed@%N.service"
rm -f "$machine/usr/sbin/sendmail" # a link, where there is one
printf '%s\n' '#!/bin/sh' 'printf "%s\n" "$*" >/run/mail.part; cat >>/run/mail.part; mv /run/mail.part /run/mail' >"$machine/usr/sbin/sendmail"
chmod 755 "$machine/usr/sbin/sendmail"
inside systemctl daemon-reload
expect_fail any "" inside systemctl start ambro-capture@broken.service
alarmed() { inside test -e /run/mail; }
wait_for 10 alarmed || fail "OnFailure= was not started: $(unit_says ambro-failed@ambro-capture@broken)"
inside cat /run/mail >"$scratch/mail"
for word in '^-t$' '^To: root$' '^Subject: ambro-capture@broken failed on ' '/dev/none'; do
	finds "$word" <"$scratch/mail" || fail "the mail has no \"$word\": $(cat "$scratch/mail")"
done
[[ $(metric broken exit_code) == 1 && ! $(metric broken last_success_timestamp_seconds) ]] || fail "metrics of a failure"
inside journalctl --no-pager -o cat AMBRO_CAPTURE=broken MESSAGE_ID=6f0cbb2a9e4d4c0ea2f1c40f6d5a7b22 | finds /dev/none ||
	fail "no entry of the failure"

# ---- off and on again -----------------------------------------------------------------------------

inside umount /data
drop_in ambro-capture@test.timer <<<"[Timer]
RandomizedDelaySec=0
AccuracySec=1s"
machine_off
before=$(find "$scratch/srv/ambro/images" -type f | sort)
stamp=$machine/var/lib/systemd/timers/stamp-ambro-capture@test.timer
[[ -e $stamp ]] || fail "the timer keeps no time"
touch -d '3 days ago' "$stamp"
machine_boot
caught_up() { [[ $(find "$scratch/srv/ambro/images" -type f | sort) != "$before" ]]; }
wait_for 60 caught_up || fail "what was missed is not made up for: $(inside systemctl status --no-pager ambro-capture@test.timer)"
wait_for 60 is_done || fail "the unit does not end"
[[ $(result_of ambro-capture@test) == success ]] || fail "$(unit_says ambro-capture@test)"
inside ambroctl repo check --repo /srv/ambro >/dev/null || fail "the repository is not well"
machine_off
