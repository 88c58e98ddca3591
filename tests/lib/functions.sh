# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# functions.sh - what every integration test sources. A test is one behaviour; it exits 0, 1, or 77
# with the reason for being skipped. Whatever it sets up it registers with `cleanup`, which runs
# however the test ends.
#
# Functions that set something up never print their result: a hook registered inside $(…) would be
# lost. They leave it in a variable named below ($loop, $agent_pid).

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
O=${O:-build/rel}
[[ $O == /* ]] || O=$top/$O
export LC_ALL=C TZ=UTC
PATH=$PATH:/usr/sbin:/sbin

. "$top/tests/lib/sanitizer.sh"
sanitizer_begin

# ---- words ---------------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }
fail() {
	say "FAIL: $*"
	exit 1
}
skip() {
	printf 'skipped: %s\n' "$*"
	exit 77
}
require() {
	local c
	for c; do
		command -v "$c" >/dev/null || skip "$c is not installed"
	done
}
require_root() { ((EUID == 0)) || skip "needs root"; }
# COMMAND… | finds GREP-ARGUMENT…: whether grep finds it. Reads all there is: grep -q leaves at the first match, and a
# command that had more to say then dies of SIGPIPE, which pipefail calls a failure.
finds() {
	local n
	n=$(grep -c "$@")
}

# ---- clean-up hooks --------------------------------------------------------------------------------

_hooks=()
_main=$BASHPID

# cleanup CMD…: run it when the test ends; the last registered runs first.
cleanup() {
	[[ $BASHPID == "$_main" ]] || fail "cleanup in a subshell would be lost: $*"
	_hooks+=("$(printf '%q ' "$@")")
}

_at_exit() {
	local status=$1 i
	trap '' INT TERM
	trap - EXIT
	set +e
	((status == 0 || status == 77)) || _show_agent_log
	for ((i = ${#_hooks[@]} - 1; i >= 0; i--)); do
		eval "${_hooks[i]}"
	done
	if ((status == 0)); then
		_kernel_log_is_quiet || status=1
	fi
	sanitizer_end >&2 || status=1
	exit "$status"
}
trap '_at_exit $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- scratch space ---------------------------------------------------------------------------------

# free_mib DIR: MiB free there.
free_mib() { df --output=avail -BM "$1" | tail -n1 | tr -dc 0-9; }

_scratch_parent() {
	local d
	for d in /dev/shm "${TMPDIR:-/var/tmp}" /var/tmp; do
		[[ -d $d && -w $d ]] && (($(free_mib "$d") >= 3072)) && break
	done
	printf '%s\n' "$d"
}
scratch=$(mktemp -d "$(_scratch_parent)/ambro-test.XXXXXX")
cleanup rm -rf --one-file-system "$scratch"
# what captures keep of their last image is not the machine's
export AMBRO_STATE_DIR=$scratch/state

# ---- the kernel's log is part of the result ----------------------------------------------------------

_marker="ambro-test $(basename "$0") $$ $RANDOM"
if ! { echo "$_marker" >/dev/kmsg; } 2>/dev/null || ! dmesg 2>/dev/null | finds -F "$_marker"; then
	_marker=
fi
_kernel_log_is_quiet() {
	local found
	[[ $_marker ]] || {
		say "note: the kernel log cannot be read, so it was not checked"
		return 0
	}
	found=$(dmesg | sed "1,/$_marker/d" |
		grep -E 'WARNING:|BUG:|Oops|hung task|blocked for more than') || return 0
	say "FAIL: the kernel complained:" && say "$found"
	return 1
}

# ---- devices and mounts ------------------------------------------------------------------------------

# loop_make FILE [losetup options…]: a loop device over it; $loop is its path.
loop=
loop_make() {
	loop=$(losetup --find --show "${@:2}" "$1")
	_loops[$loop]=$(losetup -nO BACK-FILE "$loop")
	cleanup _loop_free "$loop"
}
declare -A _loops=() # device to file
_loop_free() {
	local pins file
	pins=/sys/fs/bpf/ambro/$((0x$(stat -c %t "$1"))):$((0x$(stat -c %T "$1")))
	# its number may be somebody else's by now
	file=$(losetup -nO BACK-FILE "$1" 2>/dev/null) || return 0
	[[ ${file% (deleted)} == "${_loops[$1]}" || $file == "$scratch"/* ]] || return 0
	partx -d "$1" 2>/dev/null
	losetup -d "$1"
	rm -rf "$pins" 2>/dev/null # they outlive the disk, and nobody will ask for them again
	return 0
}

# partitions_add DISK: tell the kernel of its partitions, also where it has no parser for the table,
# and see that their nodes exist, also where nobody makes them.
partitions_add() {
	local disk=$1 sys node
	# not -u: it overlooks the last partition when a number before it is missing
	partx -a "$disk" 2>/dev/null || partx -u "$disk"
	for sys in /sys/class/block/"${disk##*/}"/"${disk##*/}"*/; do
		[[ -e $sys/dev ]] || fail "$disk: the kernel took no partition"
		node=/dev/$(basename "$sys")
		[[ -b $node ]] || mknod "$node" b "$(cut -d: -f1 "$sys/dev")" "$(cut -d: -f2 "$sys/dev")"
	done
}

# disk_make FILE SIZE <<<SFDISK_SCRIPT: a sparse file with a partition table, as $loop with partitions.
disk_make() {
	truncate -s "$2" "$1"
	sfdisk -q --no-reread --no-tell-kernel "$1" >/dev/null
	loop_make "$1"
	partitions_add "$loop"
}

# fs_known TYPE: can this kernel mount it?
fs_known() {
	grep -qw "$1" /proc/filesystems || { modprobe -q "$1" 2>/dev/null && grep -qw "$1" /proc/filesystems; }
}

# mount_at DEV DIR [mount options…]
mount_at() {
	mkdir -p "$2"
	mount "${@:3}" "$1" "$2"
	cleanup umount_at "$2"
}
umount_at() {
	local i
	mountpoint -q "$1" || return 0
	for ((i = 0; i < 50; i++)); do
		umount "$1" 2>/dev/null && return 0
		fsfreeze -u "$1" 2>/dev/null || : # a frozen one cannot be unmounted
		sleep 0.1
	done
	umount -l "$1"
}

# fs_make TYPE DEV [LABEL]: quiet mkfs.
fs_make() {
	local label=${3:-}
	case $1 in
	ext[234]) "mkfs.$1" -q -F ${label:+-L "$label"} "$2" ;;
	xfs) mkfs.xfs -q -f ${label:+-L "$label"} "$2" ;;
	btrfs) mkfs.btrfs -q -f ${label:+-L "$label"} "$2" >/dev/null ;;
	vfat) mkfs.vfat ${label:+-n "$label"} "$2" >/dev/null ;;
	swap) mkswap -q ${label:+-L "$label"} "$2" >/dev/null ;;
	*) fail "fs_make: $1?" ;;
	esac
}

# vfat_fill DEV: files onto a vfat that this kernel may not be able to mount.
vfat_fill() {
	if command -v mcopy >/dev/null; then
		mcopy -s -i "$1" /usr/share/zoneinfo/Europe /usr/lib/os-release :: 2>/dev/null
	else
		say "note: without mtools the vfat stays empty"
	fi
}

# fs_check TYPE DEV: the file system's own checker finds nothing wrong. What a mounted file system's
# image may have by design is dealt with first as any mount would: a log to replay, orphans to release.
fs_check() {
	local type=$1 dev=$2 out=$scratch/fs_check.out
	case $type in
	ext[234])
		e2fsck -fn "$dev" >"$out" 2>&1 && return 0
		e2fsck -fp "$dev" >"$out.p" 2>&1 || (($? <= 1)) || {
			cat "$out" "$out.p" >&2
			fail "e2fsck -fp $dev"
		}
		grep -vE 'orphan|[Dd]eleted inode|recovering journal|non-contiguous|Setting|Clearing' \
			"$out.p" >&2 || :
		e2fsck -fn "$dev" >"$out" 2>&1
		;;
	xfs)
		mkdir -p "$scratch/fs_check.mnt"
		mount -o nouuid "$dev" "$scratch/fs_check.mnt" && umount "$scratch/fs_check.mnt"
		xfs_repair -n "$dev" >"$out" 2>&1
		;;
	btrfs) btrfs check --readonly "$dev" >"$out" 2>&1 ;;
	vfat) _vfat_check "$dev" "$out" ;;
	*) fail "fs_check: $type?" ;;
	esac || {
		cat "$out" >&2
		fail "$type on $dev does not check"
	}
}
# The dirty bit says that it was mounted, which it was: fsck.vfat speaks of it and of nothing else.
_vfat_check() {
	fsck.vfat -n "$1" >"$2" 2>&1 && return 0
	! grep -vE '^fsck.fat |Dirty bit is set|Automatically removing dirty bit|unmounted and some data|Leaving filesystem unchanged|^$|files?, [0-9]+/[0-9]+ clusters|Leaving file' "$2"
}

# ---- our programs --------------------------------------------------------------------------------------

ambroctl() { "$O/ambroctl" "$@"; }
reader() { python3 "$top/tests/golden/reader.py" "$@"; }
tool() { "$O/tests/lib/tool-$1" "${@:2}"; }

# agent_start [VAR=VALUE…]: an agent of our own, answering on $AMBRO_SOCKET; $agent_pid, $agent_log.
agent_pid=
agent_log=$scratch/agent.log
agent_start() {
	[[ -x $O/ambrod && -x $O/ambroctl ]] || skip "$O/ambrod and ambroctl are not built"
	export AMBRO_SOCKET=$scratch/sock
	rm -f "$AMBRO_SOCKET"
	env "$@" "$O/ambrod" --socket "$AMBRO_SOCKET" >>"$agent_log" 2>&1 &
	agent_pid=$!
	cleanup agent_stop
	wait_for 20 agent_answers || fail "the agent does not answer"
}
agent_answers() {
	kill -0 "$agent_pid" 2>/dev/null || fail "the agent ended: $(tail -n3 "$agent_log")"
	[[ -S $AMBRO_SOCKET ]] && "$O/ambroctl" status &>/dev/null
}
agent_stop() {
	local dev
	[[ $agent_pid ]] || return 0
	for dev in "${!_loops[@]}"; do
		agent_call call Untrack s "$dev" &>/dev/null || :
	done
	kill "$agent_pid" 2>/dev/null || :
	wait "$agent_pid" 2>/dev/null || :
	agent_pid=
}
_show_agent_log() {
	[[ -s $agent_log ]] || return 0
	say "--- the agent said:" && tail -n 40 "$agent_log" >&2
}

# agent_call call METHOD [SIGNATURE ARGUMENTS…] | get-property NAME: by busctl, as docs/CONTROL.md says.
agent_object=/org/ambrotype/Agent1
agent_call() {
	busctl --address="unix:path=$AMBRO_SOCKET" "$1" \
		org.ambrotype.Agent1 "$agent_object" org.ambrotype.Agent1 "${@:2}"
}
# job_property N NAME: of /org/ambrotype/Agent1/job/N, as busctl prints it.
job_property() {
	busctl --address="unix:path=$AMBRO_SOCKET" get-property \
		org.ambrotype.Agent1 "$agent_object/job/$1" org.ambrotype.Job1 "$2"
}

# ---- expectations ----------------------------------------------------------------------------------------

# expect_fail CODE TEXT CMD…: it exits with that code and stderr contains TEXT. CODE "any": any but 0.
expect_fail() {
	local want=$1 text=$2 got=0
	shift 2
	"$@" >"$scratch/expect.out" 2>"$scratch/expect.err" || got=$?
	if [[ $got != "$want" && ! ($want == any && $got != 0 && $got -lt 126) ]]; then
		cat "$scratch/expect.err" >&2
		fail "exit code $got, expected $want: $*"
	fi
	grep -qiF -- "$text" "$scratch/expect.err" || {
		cat "$scratch/expect.err" >&2
		fail "stderr does not say \"$text\": $*"
	}
}

# one_line FILE: what a person is told is one line; progress, which slow machines see, is not counted.
one_line() {
	(($(grep -cvE '^(prepare|read|re-read|freeze|write|verify): ' "$1") == 1)) ||
		fail "more than one line: $(cat "$1")"
}

# wait_for SECONDS CMD…: until it succeeds; false when it never does. At least a minute, because a loaded
# machine and a sanitizer's build are slow, and only a failure waits for so long.
wait_for() {
	local end=$((SECONDS + ($1 < 60 ? 60 : $1)))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# same A B: byte for byte, up to the size of A (B may be larger).
same() {
	cmp -n "$(_size_of "$1")" "$1" "$2" >&2 || fail "$2 differs from $1"
}
_size_of() {
	if [[ -b $1 ]]; then blockdev --getsize64 "$1"; else stat -Lc %s "$1"; fi
}

# manifest IMAGE JQ_FILTER: a value of the manifest, as the second reader reads it.
manifest() { reader --show "$1" | jq -re "$2"; }

# ---- a disk that is alive ----------------------------------------------------------------------------------

# witness_start NAME DIR [options…]: tool-ackwriter in DIR; acknowledges in $scratch/NAME.ack.
declare -A _witness=()
witness_start() {
	local name=$1
	[[ -x $O/tests/lib/tool-ackwriter ]] || skip "$O/tests/lib/tool-ackwriter is not built"
	"$O/tests/lib/tool-ackwriter" write "$2" "$scratch/$name.ack" "${@:3}" >"$scratch/$name.json" &
	_witness[$name]=$!
	cleanup witness_stop "$name"
	wait_for 30 _has_lines "$scratch/$name.ack" 20 || fail "the writer in $2 does nothing"
}
_has_lines() { [[ -e $1 ]] && (($(wc -l <"$1") >= $2)); }
# witness_stop NAME: its times are then in $scratch/NAME.json.
witness_stop() {
	[[ ${_witness[$1]:-} ]] || return 0
	kill "${_witness[$1]}" 2>/dev/null || :
	wait "${_witness[$1]}" || say "the writer $1 failed"
	unset "_witness[$1]"
}
# witness_check NAME DIR IMAGE: DIR shows the image's instant: all that was acknowledged, nothing newer.
witness_check() {
	tool ackwriter check "$2" "$scratch/$1.ack" --instant "$(manifest "$3" .instant_ns)" >"$scratch/$1.check" ||
		fail "$1: $(cat "$scratch/$1.check")"
	say "$1: $(cat "$scratch/$1.check")"
	jq -e '.acked >= 10' "$scratch/$1.check" >/dev/null || fail "$1: the writer did too little to prove anything"
}

# noise_start DIR [MIB_PER_S]: random writes into a file in DIR.
noise_start() {
	require fio
	fio --name=noise --directory="$1" --size=24M --rw=randwrite --bs=16k --ioengine=psync --fsync=64 \
		--rate="${2:-4}m" --time_based --runtime=280 --output=/dev/null &>/dev/null &
	cleanup _stop_quietly $!
}
# churn DIR [TRIM [REST]]: files come and go until it is killed, and what they had is discarded, unless TRIM is no-trim;
# after every fourth, REST seconds off.
churn() {
	local i=0 n
	while :; do
		n=$((i++ % 40))
		mkdir -p "$1/churn/$n"
		head -c $(((RANDOM % 64 + 1) * 3000)) /dev/urandom >"$1/churn/$n/$RANDOM" || :
		((i % 3)) || mv "$1/churn/$n" "$1/churn/old.$i" 2>/dev/null || :
		((i % 7)) || rm -rf "$1"/churn/old.* || :
		[[ ${2:-} == no-trim ]] || ((i % 50)) || fstrim "$1" || :
		[[ ! ${3:-} ]] || ((i % 4)) || sleep "$3"
	done
}
# stands_still DIR: a change of that file system does not come back; it is left to wait, as $probe.
probe=
stands_still() {
	touch "$1/probe" 2>/dev/null &
	probe=$!
	sleep 0.3
	kill -0 "$probe" 2>/dev/null
}
_stop_quietly() {
	kill "$1" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
}

# some_files DIR MIB: about so many MiB of this system's own files.
some_files() {
	local list=$scratch/some_files
	[[ -s $list ]] || find /usr/bin /usr/lib /usr/share -xdev -type f -size -2048k -printf '%s %p\n' |
		sort -k2 >"$list"
	mkdir -p "$1"
	awk -v most=$(($2 << 20)) 'NR % 4 == 0 { n += $1; if (n > most) exit; sub(/^[0-9]+ /, ""); print }' "$list" |
		tar -cf - --no-recursion -T - 2>/dev/null | tar -xf - -C "$1"
}
# sums DIR: of every file below, to compare before and after.
sums() { (cd "$1" && find . -xdev -type f -print0 | sort -z | xargs -0r sha256sum); }
