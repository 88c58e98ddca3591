#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A client that may only write makes true increments, by what it keeps of its last image: read little, restored right by who
# has the full key. What it keeps is a help and no condition: lost, damaged, of another repository, or cut short by a kill at
# any step, the next capture is right. And an image that vanished from the repository is told of, whoever the client is.
. "$(dirname "$0")/../lib/functions.sh"
. "$(dirname "$0")/../lib/repo.sh"
require_root
require jq flock busctl
umask 077
cd "$scratch"
export AMBRO_STATE_DIR=$scratch/state

truncate -s 200M disk
loop_make "$scratch/disk"
disk=$loop
fs_make ext4 "$disk"
mount_at "$disk" "$scratch/mnt"
some_files "$scratch/mnt" 60
agent_start
for who in full client; do
	ambroctl key generate "$who.key" >"$who.pub"
done
# repository NAME: encrypted; client.key may write to it
repository() {
	ambroctl repo init --repo "$scratch/$1" --encrypt --key-file full.key >/dev/null
	ambroctl key add --repo "$scratch/$1" --key-file full.key --recipient client.pub --write-only >/dev/null
}
repository repo
repository other
export AMBRO_REPOSITORY=$scratch/repo
mkdir full
cp full.key full/ambro-key
by_full_key() { CREDENTIALS_DIRECTORY=$scratch/full "$@"; }

# change: some of the files
n=0
change() {
	((++n))
	head -c 300000 /dev/urandom >"$scratch/mnt/of.$n"
	head -c 100000 /dev/urandom >"$scratch/mnt/always"
	sync -f "$scratch/mnt"
}
# wo KIND [TEXT [options…]]: a capture with write rights is of that kind, restores right, and says TEXT (empty: nothing).
wo() {
	local files
	# names are of a second
	sleep 1
	taken "$disk" --disk vda --key-file client.key "${@:3}"
	say "$taken: $(taken_says .increment), $(taken_says .read) read, $(taken_says .new_bytes) new; $(cat taken.err)"
	[[ $(taken_says .increment) == "$1" ]] || fail "$taken is not $1 but $(taken_says .increment)"
	if [[ ${2:-} ]]; then
		grep -qF -- "$2" taken.err || fail "it does not say \"$2\""
		one_line taken.err
	else
		[[ ! -s taken.err ]] || fail "it complains: $(cat taken.err)"
	fi
	by_full_key restored "$taken" "$scratch/out"
	files=$(sums "$scratch/mnt")
	mount_at "$scratch/out" "$scratch/look" -o loop
	[[ $(sums "$scratch/look") == "$files" ]] || fail "$taken has other files"
	umount_at "$scratch/look"
}

# ---- increments ------------------------------------------------------------------------------------

wo full
whole=$(taken_says .read)
change
wo tracked
(($(taken_says .read) * 3 < whole)) || fail "the increment read $(taken_says .read) of $whole"
change
wo tracked
agent_call call Untrack s "$disk" >/dev/null
change
wo compared
(($(taken_says .same_chunks) > 100)) || fail "only $(taken_says .same_chunks) chunks are as before"
wo tracked
wo full "" --full
wo tracked
expect_fail 7 "" ambroctl list --key-file client.key
[[ -z $(find state -perm /077) ]] || fail "others can look into the state"
(($(find state -type f -path '*/image/*' | wc -l) == 1)) || fail "older images are kept"

# ---- two repositories, two states ------------------------------------------------------------------

AMBRO_REPOSITORY=$scratch/other wo full
change
AMBRO_REPOSITORY=$scratch/other wo tracked
wo tracked
change
# a state in the place of the other's
mv state swapped
mkdir state
for id in swapped/*; do
	others=$(find swapped -mindepth 1 -maxdepth 1 ! -path "$id")
	cp -a "$id" "state/${others##*/}"
done
wo full "it is of another repository"
rm -rf state swapped
wo full
wo tracked

# ---- lost, damaged, not to be trusted, not to be had -----------------------------------------------------

page=$(find state -type f -path '*/pages/*' | head -n 1)
printf 'X' | dd of="$page" bs=1 seek=100 conv=notrunc status=none
wo full "cannot be used"
wo tracked
rm "$(find state -type f -path '*/pages/*' | head -n 1)"
wo full "cannot be used"
image=$(find state -type f -path '*/image/*')
printf 'X' | dd of="$image" bs=1 seek=100 conv=notrunc status=none
wo full "cannot be used"
chmod 770 state
wo full "can be changed by others"
chmod 700 state
wo tracked
: >file
wo full "nothing is kept" --state-dir "$scratch/file/state"
wo full "nothing is kept" --state-dir ''
# what the captures without left behind
wo tracked
exec {lock}<"${image%/image/*}"
flock "$lock"
wo full "another capture of this disk"
exec {lock}<&-
wo tracked

# ---- gone from the repository ------------------------------------------------------------------------------

hash_of_taken() { by_full_key ambroctl list --json | jq -er --arg n "$taken" '.[] | select(.name == $n).hash'; }
gone=$(hash_of_taken)
by_full_key ambroctl forget --yes "$gone" >/dev/null
wo full
wo tracked
name=$taken
rm "repo/images/$(hash_of_taken)"
wo full "the image $name, which this machine put there, is gone"
wo tracked
by_full_key ambroctl repo check >/dev/null || fail "check"

# who can read everything is told, too
ambroctl repo init --repo plain >/dev/null
taken "$disk" --disk vda --repo plain
sleep 1
taken "$disk" --disk vda --repo plain
[[ $(taken_says .increment) == tracked ]] || fail "with full rights it is $(taken_says .increment)"
[[ -z $(find state -path "*/pages/*" -newer taken.err) ]] || fail "it keeps pages that it can read in the repository"
rm "plain/images/$(ambroctl list --repo plain --json | jq -er --arg n "$taken" '.[] | select(.name == $n).hash')"
name=$taken
sleep 1
taken "$disk" --disk vda --repo plain
grep -qF "the image $name, which this machine put there, is gone" taken.err || fail "nothing is said of a lost image"
[[ $(taken_says .increment) == full ]] || fail "and it relies on what is left"
umount_at "$scratch/mnt"

# ---- killed at every step ----------------------------------------------------------------------------------

head -c 6M /dev/urandom >source
next() {
	dd if=/dev/urandom of=source bs=64K count=2 seek=$((RANDOM % 90)) conv=notrunc status=none
}
nothing_runs() { [[ $(agent_call get-property Jobs) == "u 0" ]]; }
by_client() { "$O/ambroctl" capture source --disk file --key-file client.key "$@"; }
# no room for it: said, and the image is there all the same
mount_at tmpfs "$scratch/tiny" -t tmpfs -o size=64k,mode=700
fill() { head -c 1M /dev/zero >"$scratch/tiny/fill" 2>/dev/null || :; }
AMBRO_STATE_DIR=$scratch/tiny by_client -q
fill
next
AMBRO_STATE_DIR=$scratch/tiny by_client --json >taken.json 2>taken.err || fail "a full state ends the capture: $(cat taken.err)"
[[ $(taken_says .increment) == compared ]] || fail "it is $(taken_says .increment)"
grep -q "nothing is kept.*no room" taken.err || fail "it does not say that there is no room: $(cat taken.err)"
one_line taken.err
rm "$scratch/tiny/fill"
for kind in compared compared; do
	next
	AMBRO_STATE_DIR=$scratch/tiny by_client --json >taken.json 2>taken.err || fail "$(cat taken.err)"
	[[ ! -s taken.err && $(taken_says .increment) == "$kind" ]] || fail "$(taken_says .increment): $(cat taken.err)"
done

by_client -q
next
AMBRO_TEST_STORE_STEP=count:$scratch/steps by_client -q
number=0 rounds=0
while read -r step <&3; do
	((++number))
	# what a flush that was not done leaves no process can tell
	[[ $step != flush* ]] || continue
	next
	{ AMBRO_TEST_STORE_STEP=kill:$number by_client -q >killed.log 2>&1; } 2>/dev/null && fail "step $number: not killed"
	wait_for 20 nothing_runs || fail "the agent goes on"
	next
	by_client --json >taken.json 2>taken.err || fail "step $number: $(cat taken.err)"
	[[ ! -s taken.err ]] || fail "step $number, $step: $(cat taken.err)"
	[[ $(taken_says .increment) == compared ]] || fail "step $number, $step: the next one is $(taken_says .increment)"
	# (two of one second have the same name)
	name=$(taken_says .image)
	by_full_key restored "${name%/*}/latest" out
	cmp source out || fail "step $number, $step: it restores to something else"
	((++rounds))
done 3<steps
say "$rounds steps of $number"
((rounds >= 15)) || fail "too few steps"
kept=$(find state -type f -path '*/file/image/*' | wc -l)
((kept == 1)) || fail "$kept images are kept"
by_full_key ambroctl repo check --read-data >/dev/null || fail "check"
