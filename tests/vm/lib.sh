# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# lib.sh - what every test in the light guest sources: tests/lib/functions.sh, with all that it has, and what
# only a guest has. tests/vm/run says how a test asks for its machine.

[[ ${VM_RESULTS:-} ]] || {
	echo "this test is for the guest: tests/vm/run ${0##*/}" >&2
	exit 77
}
# shellcheck source=tests/lib/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/functions.sh"

# the runner reads the kernel's log, from its first line on, and knows what the test expects there
_kernel_log_is_quiet() { :; }

# what outlives a power cut
state=$VM_RESULTS/state
mkdir -p "$state"
# shellcheck disable=SC2034 # the test's
read -ra disks <<<"${VM_DISKS:-}"

# ---- words -----------------------------------------------------------------------------------------------

# ok WHAT: what has just been seen.
ok() { say "ok: $*"; }
# check WHAT CMD…: it succeeds, or the test ends.
check() {
	local what=$1
	shift
	"$@" || fail "$what: $*"
	ok "$what"
}
# check_fails WHAT CMD…: it does not.
check_fails() {
	local what=$1
	shift
	! "$@" || fail "$what: this should have failed: $*"
	ok "$what"
}
# check_equal WHAT WANTED GOT
check_equal() {
	[[ $2 == "$3" ]] || fail "$1: expected $2, got $3"
	ok "$1"
}

# took NAME CMD…: and how long it did.
took() {
	local name=$1 began=${EPOCHREALTIME/./} status=0
	shift
	"$@" || status=$?
	say "time: $name $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
	return "$status"
}

# ---- power -----------------------------------------------------------------------------------------------

# vm_power_cut: the machine ends here and boots again, with the same disks and $VM_BOOT one higher. The
# test then starts from its beginning. All that was written to the disks is on them, flushed or not; of
# files only what is in $state is left.
vm_power_cut() {
	printf '\npower-cut\n' >"$VM_CONTROL"
	sleep infinity
}

# ---- disks -----------------------------------------------------------------------------------------------

# disk_layout DISK <<<SFDISK_SCRIPT: a new partition table, and the nodes of what is in it.
disk_layout() {
	sfdisk -q --wipe always --wipe-partitions always "$1" >/dev/null
	wait_for 60 _has_partitions "$1" "$(sfdisk -d "$1" | grep -c '^/dev/')" || fail "$1 shows no partitions"
}
_has_partitions() {
	local n=0 p
	for p in /sys/block/"${1##*/}"/"${1##*/}"*/partition; do
		[[ -b /dev/$(basename "$(dirname "$p")") ]] && n=$((n + 1))
	done
	((n == $2))
}

# part DISK N: the name of its Nth partition.
part() {
	if [[ $1 == *[0-9] ]]; then echo "$1p$2"; else echo "$1$2"; fi
}

# sectors_of DEVICE: of 512 bytes.
sectors_of() { blockdev --getsz "$1"; }

# hash_of DEVICE [FIRST SECTORS]: of what is on it, past the page cache. About 10 ms a MiB.
hash_of() {
	local range=()
	(($# == 1)) || range=(skip=$(($2 * 512))B count=$(($3 * 512))B)
	dd if="$1" bs=1M iflag=direct,fullblock ${range[@]+"${range[@]}"} status=none | md5sum | cut -d ' ' -f 1
}

# random_onto DEVICE [MIB]: what no two blocks have alike.
random_onto() {
	dd if=/dev/urandom of="$1" bs=1M oflag=direct iflag=fullblock ${2:+count="$2"} status=none 2>/dev/null ||
		[[ ! ${2:-} ]] # without a number it goes on to the end of the device, and says so
}

# uncache FILE: it is read from its disk the next time. Never drop_caches here: that takes the programs too.
uncache() {
	sync "$1"
	dd if="$1" iflag=nocache count=0 status=none
}

# ---- device-mapper ------------------------------------------------------------------------------------------

# dm_make NAME [dmsetup options…] <<<TABLE: /dev/mapper/NAME, until the test ends.
dm_make() {
	dmsetup create "$@" || fail "dmsetup create $*"
	cleanup dm_remove "$1"
}
dm_remove() {
	dmsetup info "$1" &>/dev/null || return 0
	dmsetup remove --retry "$1" || dmsetup remove --force "$1"
}

# ---- load ----------------------------------------------------------------------------------------------------

# fio_start NAME [fio options…]: in the background, until fio_stop or the test's end; what it says is in
# $scratch/NAME.fio.
declare -A _fio=()
fio_start() {
	require fio
	fio --name="$1" "${@:2}" >"$scratch/$1.fio" 2>&1 &
	_fio[$1]=$!
	cleanup fio_stop "$1"
}
fio_stop() {
	[[ ${_fio[$1]:-} ]] || return 0
	_stop_quietly "${_fio[$1]}"
	unset "_fio[$1]"
}
# fio_wait NAME: until it is through, without an error.
fio_wait() {
	wait "${_fio[$1]}" || fail "fio $1: $(tail -n 20 "$scratch/$1.fio")"
	unset "_fio[$1]"
}
