#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# guest-run.sh TOP - process 1 of the light guest, on the host's root: loads the modules, finds the disks,
# runs the test that the job file names, tells the runner how it ended, powers off.
#
# ttyS0 is the kernel's log and nothing else; ttyS1 is the way to the runner, one word a line:
# "up", "exit STATUS", "power-cut".

top=$1
export VM_RESULTS=/run/vm/results VM_CONTROL=/dev/ttyS1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
unset TERM
# what the job file sets
vm_shell='' vm_shell_term='' vm_disks=0 vm_modules='' vm_argv=()

end() {
	sync -f "$VM_RESULTS" 2>/dev/null
	printf '\nexit %s\n' "$1" >"$VM_CONTROL"
	echo o >/proc/sysrq-trigger
	# no program any more: the root may be gone before we are, and a dead process 1 is a panic
	while :; do read -r _ <>/run/vm/never; done
}
stuck() {
	echo "guest-run: $*" >/dev/console
	echo "$*" >"$VM_RESULTS/stuck"
	end 125
}

modules() {
	local dir
	dir=/lib/modules/$(uname -r)
	busybox mkdir -p "$dir"
	busybox mount -o bind "$top/build/vm/kernels/$VM_KERNEL/modules" "$dir" || stuck "no modules of $(uname -r)"
	# shellcheck disable=SC2086 # words, on purpose
	modprobe -a $vm_modules || stuck "modprobe $vm_modules"
}

# serial_of DISK: what QEMU gave it, into $serial. Without a process: those are slow here.
serial_of() {
	local file word
	serial=
	for file in "/sys/block/$1"/{serial,device/serial,device/vpd_pg80}; do
		[[ -e $file ]] || continue
		# SCSI's page is binary: the serial is what follows the last NUL and a length
		while IFS= read -r -d '' word || [[ $word ]]; do
			serial=${word##[^v]}
		done <"$file"
		serial=${serial%%[[:space:]]*}
		return
	done
}
find_disks() {
	local i d tries node serial
	VM_DISKS=
	for ((i = 0; i < vm_disks; i++)); do
		node=
		for ((tries = 0; tries < 600 && !${#node}; tries++)); do
			((tries == 0)) || sleep 0.1
			for d in /sys/block/{vd,sd,nvme}*; do
				[[ -b /dev/${d##*/} ]] || continue
				serial_of "${d##*/}"
				[[ $serial == "vmdisk$i" ]] && node=/dev/${d##*/} && break
			done
		done
		[[ $node ]] || stuck "disk $i is not there"
		VM_DISKS+="${VM_DISKS:+ }$node"
	done
	export VM_DISKS
}

# shellcheck source=/dev/null
. "$VM_RESULTS/job" || stuck "no job"
ulimit -c 0
# the first character after the line was opened may be lost (seen once in some hundred boots)
printf '\nup\n' >"$VM_CONTROL"
modules
find_disks
# there is no udev: libdevmapper makes its nodes itself
export DM_DISABLE_UDEV=1
cd "$top" || stuck "no $top"
if [[ $vm_shell ]]; then
	export TERM=${vm_shell_term:-vt100}
	PS1='vm# ' setsid -c bash --norc -i </dev/ttyS0 >/dev/ttyS0 2>&1
	end 0
fi
setsid -w bash "${vm_argv[@]}" </dev/null >>"$VM_RESULTS/output" 2>&1
end $?
