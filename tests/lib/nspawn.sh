# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
#
# nspawn.sh - this system once more, booted by its own systemd as PID 1 in a container, with our programs installed; sourced after
# functions.sh. It is an overlay over /: whatever is done in there is gone with $scratch.

machine=          # its root
machine_pid=      # its PID 1, as we see it
_machine_nspawn=  # systemd-nspawn
_machine_name=ambro-$$
_machine_binds=() # options of systemd-nspawn
_machine_boots=0

# machine_disk MIB: a disk with an ext4, $loop here and in there, and $scratch/srv as its /srv: not on the overlay, of which nobody
# in there can tell whether it lies on the disk. Before machine_make.
machine_disk() {
	truncate -s "$1M" "$scratch/disk"
	loop_make "$scratch/disk"
	fs_make ext4 "$loop"
	mkdir "$scratch/srv"
	_machine_binds+=(--bind="$loop" --bind="$scratch/srv:/srv")
}
# machine_make: the root, and what is installed into it.
machine_make() {
	require_root
	[[ -x $O/ambrod && -x $O/ambroctl ]] || skip "$O/ambrod and ambroctl are not built"
	require systemd-nspawn nsenter systemd-sysusers
	sanitizer_build "$O/ambrod" && skip "units leave sanitizers no room"
	machine=$scratch/machine
	mkdir -p "$machine" "$scratch/upper" "$scratch/overlay"
	mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/overlay" ambro-machine "$machine" 2>/dev/null ||
		skip "no overlay of / can be mounted on $scratch"
	cleanup _machine_gone
	# nothing that this machine was told to start
	rm -rf "$machine"/etc/systemd/system "$machine"/var/lib/systemd/timers "$machine"/var/log/journal "$machine"/etc/ambro
	mkdir -p "$machine"/etc/systemd/system "$machine"/var/lib/systemd/timers
	: >"$machine"/etc/fstab
	tr -d - </proc/sys/kernel/random/uuid >"$machine"/etc/machine-id
	ln -sf /usr/lib/systemd/system/multi-user.target "$machine"/etc/systemd/system/default.target
	(cd "$top" && make -s -o all O="$O" DESTDIR="$machine" install >/dev/null) || fail "make install"
	systemd-sysusers --root="$machine" "$machine"/usr/lib/sysusers.d/ambro.conf
}
_machine_gone() {
	machine_kill
	umount -R "$machine" 2>/dev/null || umount -l "$machine"
	# shellcheck disable=SC2016 # for the inner shell
	unshare -m --propagation private bash -c '
		mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
		for i in {1..50}; do # those that were killed need a moment
			find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} \;
			[[ -e /sys/fs/cgroup/$1 ]] || exit 0
			sleep 0.1
		done' bash "$_machine_name" 2>/dev/null
}

# machine_boot: and wait until it is up. Control groups are the unified ones, whatever this machine has.
machine_boot() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare -m --propagation slave bash -c '
		umount -R /sys/fs/cgroup 2>/dev/null
		mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
		mkdir -p "/sys/fs/cgroup/$1" &&
		echo $$ >"/sys/fs/cgroup/$1/cgroup.procs" &&
		mount -t bpf bpf /sys/fs/bpf || exit 1
		cd / && exec env SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes "${@:2}"' \
		bash "$_machine_name" systemd-nspawn --quiet --boot --directory="$machine" --machine="$_machine_name" \
		--register=no --keep-unit --private-network --link-journal=no --console=pipe --capability=all \
		--bind=/sys/fs/bpf "${_machine_binds[@]}" systemd.log_target=journal \
		</dev/null >>"$scratch/nspawn.log" 2>&1 &
	_machine_nspawn=$!
	wait_for 60 _machine_is_up || {
		[[ $machine_pid ]] || _machine_cannot
		inside systemctl --no-pager list-jobs >&2 || :
		fail "the container does not come up: $(inside systemctl --failed --no-pager)"
	}
	_machine_boots=$((_machine_boots + 1))
}
# What has booted once can boot.
_machine_cannot() {
	local why
	why=$(tail -n 1 "$scratch/nspawn.log")
	((_machine_boots == 0)) || fail "systemd-nspawn: $why"
	skip "systemd-nspawn cannot boot here: $why"
}
_machine_is_up() {
	local state
	kill -0 "$_machine_nspawn" 2>/dev/null || _machine_cannot
	machine_pid=$(pgrep -P "$_machine_nspawn" -x systemd) || return 1
	state=$(inside systemctl is-system-running 2>/dev/null) || [[ $state == degraded ]]
}

# inside COMMAND…
inside() { nsenter -t "$machine_pid" -m -u -i -n -p -C -- "$@"; }
inside_as() { inside setpriv --reuid="$1" --regid=65534 --groups="$2" "${@:3}"; }

# machine_off: as an administrator does it.
machine_off() {
	inside systemctl --no-block poweroff 2>/dev/null || : # it may be gone before it has answered
	wait_for 60 _machine_is_off || fail "it does not go off"
	machine_kill
}
_machine_is_off() { ! kill -0 "$_machine_nspawn" 2>/dev/null; }
machine_kill() {
	[[ $_machine_nspawn ]] || return 0
	[[ ! $machine_pid ]] || kill -KILL "$machine_pid" 2>/dev/null || :
	kill -KILL "$_machine_nspawn" 2>/dev/null || :
	wait "$_machine_nspawn" 2>/dev/null || :
	_machine_nspawn='' machine_pid=''
}
