#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# root.sh OUT [KERNEL] - the root tree of the full Debian guest in the new directory OUT, with our
# programs installed from $O. KERNEL is 6.1 (the default), 6.12 or a release (6.1.0-56-amd64).
#
# What Debian's packages give is kept in build/vm/debian-RELEASE.tar.zst and made anew when how it is made
# or a version changes; what is ours (overlay/, programs) is put on top every time.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../../.." && pwd)
cache=$top/build/vm
built=${O:-build/rel}
[[ $built == /* ]] || built=$top/$built

suite=bookworm
packages=(systemd systemd-sysv udev dbus initramfs-tools zstd kmod lvm2 dmsetup xfsprogs e2fsprogs
	dosfstools fdisk util-linux mount partclone jq postgresql python3-minimal python3-psycopg2
	procps fio iproute2)
# in the guest's initramfs: what a disk may hang on, and what may be on it
initramfs_modules=(virtio_pci virtio_blk virtio_scsi sd_mod ahci nvme virtio_console ext4 xfs dm_mod
	dm_snapshot crc32c_generic crc32c_intel nls_ascii nls_cp437 vfat)
left_out=('/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/man/*' '/usr/share/info/*'
	'/usr/lib/postgresql/*/lib/bitcode/*' '/usr/lib/x86_64-linux-gnu/libLLVM*'
	'/usr/lib/x86_64-linux-gnu/libz3.so*')
# of the kernel: what no virtual machine has, or no test of ours uses
for d in sound drivers/{gpu,media,net,infiniband,staging,iio,usb,isdn,hwmon,mfd,leds,input,comedi,hid} \
	drivers/{platform,mtd,misc,video,target,bluetooth,i2c,pinctrl,regulator,power,firewire,thermal} \
	'drivers/scsi/*' fs/{nfs,nfsd,smb,ocfs2,ceph,gfs2,afs,jffs2,ubifs,reiserfs,jfs,coda,orangefs} \
	net/{sunrpc,sched,wireless,mac80211,bluetooth,sctp,tipc,dccp,rxrpc,batman-adv,ceph} \
	net/{,ipv4/,ipv6/,bridge/}netfilter; do
	left_out+=("*/lib/modules/*/kernel/$d/*" "/lib/modules/*/kernel/$d/*")
done

say() { printf '%s\n' "$*" >&2; }

# release_of KERNEL: what its uname -r says. The light guest and the modules that are built for a test have
# theirs from kernels.sh; it must be the same.
release_of() {
	if [[ $1 == *-amd64 ]]; then
		echo "$1"
	else
		"$here/../kernels.sh" "$1" >&2
		cat "$cache/kernels/$1/release"
	fi
}

# apt_sources: Debian's own archives, as this machine knows them
apt_sources() {
	local f
	for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
		[[ ! -s $f ]] || {
			cat "$f"
			return
		}
	done
	say "root.sh: no apt source of Debian here"
	return 1
}

# our_libraries: the packages that hold the libraries our programs are linked with
our_libraries() {
	local lib
	ldd "$built/ambrod" "$built/ambroctl" | awk '/=> \//{print $3}' | sort -u | while read -r lib; do
		lib=$(realpath "$lib")
		dpkg-query -S "$lib" 2>/dev/null || dpkg-query -S "${lib#/usr}"
	done | cut -d: -f1 | sort -u
}

# debian_tree IMAGE_PACKAGE TAR: all that comes from packages
debian_tree() {
	local options=() p
	for p in "${left_out[@]}"; do
		options+=(--dpkgopt="path-exclude=$p")
	done
	# shellcheck disable=SC2016 # mmdebstrap's $1
	local ours=(--setup-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"'
		--setup-hook='printf "MODULES=list\nCOMPRESS=lz4\n" >"$1/etc/initramfs-tools/conf.d/guest"'
		--setup-hook='echo "/dev/root / ext4 defaults 0 1" >"$1/etc/fstab"'
		--essential-hook="printf '$(printf '%s\\n' "${initramfs_modules[@]}")' >\"\$1/etc/initramfs-tools/modules\""
		--customize-hook='rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*')
	apt_sources | mmdebstrap --quiet --variant=minbase --mode=root --format=tar "${options[@]}" "${ours[@]}" \
		--aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
		--include="$(IFS=,; echo "${packages[*]},$1"),$(our_libraries | paste -sd,)" "$suite" "$2" -
}

# cached_tree RELEASE: prints where the tar is, after it has been made
cached_tree() {
	local image=linux-image-$1 tar=$cache/debian-$1.tar.zst key lock
	mkdir -p "$cache"
	exec {lock}>"$cache/.debian-$1.lock"
	flock "$lock"
	key=$({
		declare -p suite packages initramfs_modules left_out
		declare -f debian_tree
		our_libraries
		apt-cache show --no-all-versions "$image" | grep '^Version:'
	} | sha256sum | cut -d' ' -f1)
	if [[ ! -s $tar || $(cat "$tar.key" 2>/dev/null) != "$key" ]]; then
		say "root.sh: making $tar"
		rm -f "$tar.key"
		debian_tree "$image" "$cache/.debian-$1.tar" >&2
		zstd -q -3 -T0 -f --rm "$cache/.debian-$1.tar" -o "$tar"
		echo "$key" >"$tar.key"
	fi
	echo "$tar"
}

# settle OUT: what makes the tree a guest of ours
settle() {
	local out=$1 unit
	cp -r --no-preserve=ownership "$here/overlay/." "$out/"
	# as they are: to build is not for here to do, where others may be building
	make -s -C "$top" -o all DESTDIR="$out" install install-kmod
	chroot "$out" systemd-sysusers
	systemctl -q --root="$out" enable ambrod.socket guest-agent.service >&2
	# each costs seconds of an emulated boot, or works on the disk at a time of its own
	for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
		e2scrub_reap.service fstrim.timer systemd-timesyncd.service getty@tty1.service \
		serial-getty@ttyS0.service systemd-networkd.service systemd-random-seed.service \
		systemd-binfmt.service sys-kernel-debug.mount dev-hugepages.mount; do
		ln -sfn /dev/null "$out/etc/systemd/system/$unit"
	done
	echo guest >"$out/etc/hostname"
	printf '127.0.0.1 localhost guest\n' >"$out/etc/hosts"
	echo 0123456789abcdef0123456789abcdef >"$out/etc/machine-id"
	rm -f "$out/etc/resolv.conf"
	mkdir -p "$out/host" "$out/boot/efi"
	printf '%s\n' "jit = off" >>"$out"/etc/postgresql/*/main/postgresql.conf
}

out=${1:?usage: root.sh OUT [KERNEL]}
[[ -x $built/ambrod && -x $built/ambroctl ]] || {
	say "root.sh: $built has no programs; make all"
	exit 1
}
tar=$(cached_tree "$(release_of "${2:-6.1}")")
mkdir -p "$out"
rmdir "$out" && mkdir "$out"
tar --zstd -xpf "$tar" --numeric-owner -C "$out"
settle "$out"
