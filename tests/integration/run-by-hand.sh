#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `ambroctl run` without a unit around it: what it runs, its exit codes, what it writes down when all is well and when not, and
# that a signal is passed on.
. "$(dirname "$0")/../lib/functions.sh"
. "$top/tests/lib/repo.sh"
require_root
require jq
agent_start
repo_make
unset AMBRO_REPOSITORY
mkdir "$scratch/conf"
head -c 12M /dev/urandom >"$scratch/source"
# conf NAME KEY=VALUE…
conf() { printf '%s\n' "repository = $scratch/repo" "source = $scratch/source" "metrics = $scratch/$1.prom" "${@:2}" >"$scratch/conf/$1.conf"; }
run() { ambroctl run --config-dir "$scratch/conf" "$@"; }
metric() { sed -n "s/^ambro_capture_$2{.*} //p" "$scratch/$1.prom"; }
images() { ambroctl list --json --repo "$scratch/repo" | jq -r '.[].name'; }

conf good host=h disk=d "tags = a, b" keep_last=2 prune=yes
conf other disk=e
[[ $(run --list | tr '\n' ' ') == "good other " ]] || fail "$(run --list)"
run --check good >"$scratch/check"
grep -q -- '^ambroctl capture --json .*--host=h --disk=d --tag=a --tag=b' "$scratch/check" || fail "$(<"$scratch/check")"
grep -q -- '^ambroctl forget .*--host=HOST --disk=DISK --keep-last=2$' "$scratch/check" || fail "$(<"$scratch/check")"

# another disk's image is nobody's business here
run other >/dev/null
for _ in 1 2 3; do
	sleep 1 # an image's name has seconds
	run --json good >"$scratch/taken.json"
done
[[ $(images | grep -c '^h/d/') == 2 && $(images | grep -c /e/) == 1 ]] || fail "kept: $(images)"
[[ $(taken_says .image) == "$(images | tail -n 1)" ]] || fail "it says $(taken_says .image)"
[[ $(metric good exit_code) == 0 && $(stat -c %a "$scratch/good.prom") == 644 ]] || fail "$(<"$scratch/good.prom")"
grep -q 'name="good",host="h",disk="d"} 12582912$' "$scratch/good.prom" || fail "bytes read: $(<"$scratch/good.prom")"
success=$(metric good last_success_timestamp_seconds)

# what is wrong with a file is said with its line, before anything is done
conf wrong "levl = 3"
expect_fail 2 "wrong.conf:4: levl is not a key" run wrong
conf wrong "level = 77"
expect_fail 2 "--level: 77 is not" run --check wrong
expect_fail 1 "none.conf" run none
[[ ! -e $scratch/wrong.prom ]] || fail "a metrics file of what was not run"

# a signal reaches what is run; nothing is left, and the next one is as good as any
conf slow disk=slow limit_read=1M
"$O/ambroctl" run --config-dir "$scratch/conf" slow >/dev/null 2>"$scratch/slow.err" &
pid=$!
cleanup _stop_quietly $pid
has_job() { [[ $(agent_call get-property Jobs) == "u $1" ]]; }
wait_for 20 has_job 1 || fail "no job"
kill "$pid"
status=0
wait "$pid" || status=$?
((status == 130)) || fail "exit code $status after SIGTERM: $(<"$scratch/slow.err")"
wait_for 20 has_job 0 || fail "a job is left"
[[ $(images) != */slow/* && $(metric slow exit_code) == 130 ]] || fail "left: $(images)"

# a failure is written down beside what the last success was
agent_stop
sleep 1
expect_fail 5 "" run good
[[ $(metric good exit_code) == 5 && $(metric good last_success_timestamp_seconds) == "$success" ]] ||
	fail "after a failure: $(<"$scratch/good.prom")"
(($(metric good last_run_timestamp_seconds) > success)) || fail "the last run?"

# a key that may only add images cannot let any go: that is said before the capture, and nothing is captured
umask 077
echo "correct horse" >"$scratch/pw"
ambroctl repo init --encrypt --repo "$scratch/sealed" --passphrase-file "$scratch/pw" >/dev/null
ambroctl key generate "$scratch/client" >"$scratch/client.pub"
ambroctl key add --repo "$scratch/sealed" --passphrase-file "$scratch/pw" --recipient "$scratch/client.pub" --write-only >/dev/null
agent_start
printf '%s\n' "repository = $scratch/sealed" "source = $scratch/source" "metrics = $scratch/sealed.prom" "disk=d" \
	"key_file = $scratch/client" >"$scratch/conf/adds.conf"
for what in keep_last=3 prune=yes; do
	(cat "$scratch/conf/adds.conf" && echo "$what") >"$scratch/conf/sealed.conf"
	expect_fail 7 "sealed.conf: the key may only add images" run sealed
	[[ $(metric sealed exit_code) == 7 && ! $(ls "$scratch/sealed/images") ]] || fail "captured with $what"
done
run adds >/dev/null
[[ $(find "$scratch/sealed/images" -type f | wc -l) == 1 ]] || fail "not captured"
