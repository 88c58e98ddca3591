# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# kmod.sh - what the tests of ambro.ko source after lib.sh: the module, one process that owns the
# attachments, and the device-mapper devices between back and front, made by dmsetup.

: "${top:?lib.sh comes first}"
tool_ambro=$O/tests/lib/tool-ambro
module=$top/build/vm/kmod/$VM_KERNEL/ambro.ko
# what the last `ambro` said; the attachment that the stack_ functions are about
reply='' id='' back=''

# ---- the module and its owner -------------------------------------------------------------------

kmod_load() {
	[[ -f $module ]] || skip "make kmod-vm has not been run: no $module"
	insmod "$module" || fail "insmod"
	cleanup kmod_unload
}
kmod_unload() {
	[[ ! -d /sys/module/ambro ]] || rmmod ambro || fail "rmmod: $(ambro_oneshot query)"
}

# owner_start: a process that the commands of `ambro` go to.
owner_start() {
	_owner_PID='' # bash sets it
	coproc _owner { exec "$tool_ambro"; }
	owner_pid=$_owner_PID
	# the coprocess's own would stay open until it ends, and it would not end until they are closed
	exec {_to_owner}>&"${_owner[1]}" {_from_owner}<&"${_owner[0]}"
	eval "exec ${_owner[1]}>&- ${_owner[0]}<&-"
	cleanup owner_stop
}
owner_stop() {
	[[ ${owner_pid:-} ]] || return 0
	exec {_to_owner}>&- {_from_owner}<&-
	wait "$owner_pid" 2>/dev/null
	owner_pid=
}
# owner_kill: SIGKILL, in whatever it does.
owner_kill() {
	kill -KILL "$owner_pid"
	wait "$owner_pid" 2>/dev/null || true
	exec {_to_owner}>&- {_from_owner}<&-
	owner_pid=
}

# ambro COMMAND…: the owner does it; what it said is in $reply.
ambro() {
	printf '%s\n' "$*" >&"$_to_owner"
	IFS= read -r reply <&"$_from_owner" || fail "the owner is gone"
	[[ $reply == ok* ]]
}
# ambro_oneshot COMMAND…: by another process, which owns nothing afterwards.
ambro_oneshot() { "$tool_ambro" "$@"; }

# refused ERRNO COMMAND…: by the owner.
refused() {
	local errno=$1
	shift
	! ambro "$@" || fail "$*: this should have failed with $errno"
	check_equal "$*: $errno" "error $errno" "$reply"
}

# field NAME: of $reply.
field() {
	local word
	for word in $reply; do
		[[ $word != "$1="* ]] || echo "${word#*=}"
	done
}
# query NAME: of the attachment, now.
query() {
	ambro query "$id" || fail "query: $reply"
	field "$1"
}

# ---- the stack --------------------------------------------------------------------------------------

# stack_attach DISK: $id and $back.
stack_attach() {
	ambro attach "$1" || fail "attach $1: $reply"
	id=$(field id)
	back=/dev/ambro-back$id
	wait_for 30 test -b "$back" || fail "no $back"
}

# dm_number NAME: MAJOR:MINOR. A device without a table has no node yet.
dm_number() { dmsetup info -c --noheadings --separator : -o major,minor "$1"; }

# stack_prepare COW [CHUNK_SECTORS]: everything but the resumes, for a snapshot of the whole disk.
stack_prepare() {
	local sectors cow=$1 chunk=${2:-16}
	sectors=$(sectors_of "$back")
	dd if=/dev/zero of="$cow" bs=64k count=1 oflag=direct conv=notrunc status=none
	dmsetup create "snap$id" --notable
	dmsetup create "origin$id" --notable
	dmsetup load "snap$id" --table "0 $sectors snapshot $back $cow N $chunk"
	dmsetup load "origin$id" --table "${stack_table:-0 $sectors snapshot-origin $back}"
	ambro arm "$id" "$(dm_number "origin$id")" || fail "arm: $reply"
	snap=/dev/mapper/snap$id
}

# stack_on [MOUNTPOINT…]: freeze, the snapshot before the origin, on. $truth is the hash of the disk
# (or of the part of it that $stack_range says) as it was meanwhile; then thaw.
stack_on() {
	local dir
	for dir; do
		fsfreeze -f "$dir"
	done
	dmsetup resume "snap$id"
	dmsetup resume "origin$id"
	ambro on "$id" || fail "on: $reply"
	# through the disk, thus through the stack: nothing was copied yet
	# shellcheck disable=SC2034,SC2086 # the test's; two words
	truth=$(hash_of "$back" ${stack_range:-})
	for dir; do
		fsfreeze -u "$dir"
	done
}

stack_off() {
	took "off" ambro off "$id" || fail "off: $reply"
	check_equal "armed again" armed "$(query state)"
	check_equal "in flight" 0 "$(query in_flight)"
}

# stack_remove: all but the attachment.
stack_remove() {
	ambro disarm "$id" || fail "disarm: $reply"
	dm_remove "origin$id"
	dm_remove "snap$id"
}

stack_detach() {
	wait_for 30 ambro detach "$id" || fail "detach: $reply"
}

# stack_clean: whatever a failed test left.
stack_clean() {
	[[ $id && ${owner_pid:-} ]] || return 0
	ambro off "$id" && ambro disarm "$id"
	dm_remove "origin$id"
	dm_remove "snap$id"
	ambro detach "$id" || true
}

# snapshot_is_truth WHAT [TIMES]: it reads as the disk did at the freeze.
snapshot_is_truth() {
	local i
	for ((i = 0; i < ${2:-1}; i++)); do
		# shellcheck disable=SC2086 # two words
		check_equal "$1" "$truth" "$(hash_of "$snap" ${stack_range:-})"
	done
}

# files_make DIR MIB: files of one MiB and a few small ones. (some_files takes minutes over 9p.)
files_make() {
	local i
	mkdir -p "$1"
	for ((i = 0; i < $2; i++)); do
		dd if=/dev/urandom of="$1/big$i" bs=1M count=1 status=none
		dd if=/dev/urandom of="$1/small$i" bs=1500 count=1 status=none
	done
}
