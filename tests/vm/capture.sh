# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what the test reads, what lib.sh sets
#
# capture.sh - for tests of the agent's snapshots in the guest: files, a captured disk, and what must be so
# afterwards. To be sourced behind lib.sh.

require dmsetup jq

# made_files DIR MIB: text, noise and holes in files of many sizes. (some_files would read the host's tree by 9p,
# file by file, for minutes.)
made_files() {
	python3 - "$1" "$2" <<-'EOT'
		import os, random, sys
		top, left = sys.argv[1], int(sys.argv[2]) << 20
		r, n = random.Random(1), 0
		words = [w * 3 for w in ("alpha ", "beta ", "gamma ", "delta\n")]
		while left > 0:
		    size = min(left, int(2 ** r.uniform(8, 19)))
		    d = f"{top}/{n % 17}/{n % 5}"
		    os.makedirs(d, exist_ok=True)
		    with open(f"{d}/{n}", "wb") as f:
		        if n % 3 == 0:
		            f.write(r.randbytes(size))
		        elif n % 3 == 1:
		            f.write(("".join(r.choices(words, k=64)).encode() * (size // 512 + 1))[:size])
		        else:
		            f.seek(size)
		            f.write(b"end")
		    left -= size
		    n += 1
	EOT
}

# volume_make NAME DISK: /dev/mapper/NAME over the disk, of two targets; $table is what it must have afterwards.
volume_make() {
	local sectors half
	sectors=$(sectors_of "$2")
	half=$((sectors / 2 / 8 * 8))
	dm_make "$1" <<-EOT
		0 $half linear $2 0
		$half $((sectors - half)) linear $2 $half
	EOT
	table=$(dmsetup table "$1")
}

# module_load: ambro.ko for this kernel, out at the end.
module_load() {
	local ko=$top/build/vm/kmod/$VM_KERNEL/ambro.ko
	[[ -e $ko ]] || skip "$ko is not built"
	modprobe dm-snapshot
	insmod "$ko" || fail "insmod $ko: $(dmesg | tail -n 3)"
	cleanup rmmod ambro
}

# busy_start NAME DIR: acknowledged files, in DIR/NAME, and random writes in DIR.
busy_start() {
	mkdir "$2/$1"
	witness_start "$1" "$2/$1"
	fio_start "$1-noise" --directory="$2" --size=6M --rw=randwrite --bs=16k --ioengine=psync --fsync=64 \
		--rate=2m --time_based --runtime=280
}
busy_stop() {
	witness_stop "$1"
	fio_stop "$1-noise"
}

# nothing_left [MOUNT…]: of a snapshot: no device, no attachment, no file.
nothing_left() {
	local m
	! dmsetup ls | finds '^ambro-' || fail "devices are left: $(dmsetup ls)"
	[[ ! -e /dev/ambro-control || $(tool ambro query 2>&1) == *ENOENT* ]] || fail "an attachment is left: $(tool ambro query)"
	for m; do
		[[ ! $(find "$m" -maxdepth 1 -name '.ambrotype*') ]] || fail "a file of the store is left on $m"
	done
}

# image_restores IMAGE NAME SUMS TYPE [PARTITION]: its file system (in that partition) checks, has the files, and shows the
# witness's instant.
image_restores() {
	local back=$scratch/back.raw dev
	rm -f "$back"
	ambroctl restore "$1" "$back" --yes >/dev/null
	loop_make "$back"
	dev=$loop
	if [[ ${5:-} ]]; then
		partitions_add "$loop"
		dev=${loop}p$5
	fi
	fs_check "$4" "$dev"
	mount_at "$dev" "$scratch/back" -o "$([[ $4 == xfs ]] && echo nouuid || echo defaults)"
	(cd "$scratch/back" && sha256sum --quiet -c "$3") || fail "files differ"
	witness_check "$2" "$scratch/back/$2" "$1"
	umount_at "$scratch/back"
	_loop_free "$loop" || :
	rm -f "$back"
}

# The steps of agent/snapshot_cow.c at which an agent can be stopped, in their order.
steps="claimed below store loaded frozen resumed on thawed mapped ending off unsnapped unstored undone"

# agent_killed_at STEP CAPTURE-ARGUMENT…: an agent is killed while it stands at that step of a capture.
agent_killed_at() {
	agent_log=$scratch/agent-$1.log
	agent_start AMBRO_TEST_PAUSE="$1:100000"
	ambroctl capture "${@:2}" -o "$scratch/killed.img" --force &>/dev/null &
	wait_for 60 grep -q "^pause: $1" "$agent_log" || fail "the agent never came to $1: $(cat "$agent_log")"
	kill -9 "$agent_pid"
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
	[[ ! -e $scratch/killed.img ]] || fail "an image of a killed capture"
}

# goes_on DIR: what is written there now comes back.
goes_on() {
	# shellcheck disable=SC2016 # that shell's
	timeout 60 bash -c 'echo x >"$1/goes-on" && sync "$1/goes-on" && rm "$1/goes-on"' _ "$1" ||
		fail "nothing can be written to $1 any more"
}

# next_agent_cleans MOUNT…: a new agent, of which nothing is asked, takes down what the killed one left.
next_agent_cleans() {
	agent_log=$scratch/agent-next.log
	agent_start
	nothing_left "$@"
	agent_stop
}

# killed_everywhere STRATEGY SOURCE DIR CHECK: an agent is killed at every step of a capture of SOURCE, whose file system
# is mounted on DIR: writers go on, the next agent cleans, CHECK STEP holds; at the end all that was acknowledged is there.
killed_everywhere() {
	local step i=0 dir=$3
	witness_start w "$dir" --rate 20 --size 4096 --threads 2
	for step in $steps; do
		# with the store in the file system and in memory by turns
		agent_killed_at "$step" "$2" --strategy "$1" \
			--cow "$( ((i++ % 3 == 2)) && echo ram || echo file)" --cow-size 16M
		goes_on "$dir"
		next_agent_cleans "$dir"
		"$4" "$step"
		goes_on "$dir"
	done
	witness_stop w
	umount_at "$dir"
	fs_check ext4 "$2"
	mount_at "$2" "$dir"
	tool ackwriter check "$dir" "$scratch/w.ack" --instant "$(date +%s%N)" >"$scratch/check" ||
		fail "acknowledged files: $(cat "$scratch/check")"
	ok "acknowledged files: $(cat "$scratch/check")"
}
