#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# guest.sh VERSION - what the light guest boots from, in build/vm/kernels/VERSION:
#
#   vmlinux      the kernel unpacked; QEMU starts it by PVH. To unpack itself takes it 4 s here.
#   guest.cpio   busybox, the modules that reach the host's root, and guest-boot.sh, which goes there
#
# Made again when what they are made of changed.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=$here/../../build/vm/kernels/$1
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
wanted=(virtio_pci 9pnet_virtio 9p overlay)

die() {
	printf 'guest.sh: %s\n' "$*" >&2
	exit 1
}

for tool in busybox cpio modprobe; do
	command -v "$tool" >/dev/null || die "$tool is not installed"
done
busybox=$(command -v busybox)
ldd "$busybox" &>/dev/null && die "busybox is not static: install busybox-static"
[[ -e $home/.complete ]] || die "no kernel $1: kernels.sh fetches it"

# number FILE OFFSET SIZE: little endian.
number() { od -An "-tu$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# unpack BZIMAGE: the header says where the compressed kernel lies (Documentation/arch/x86/boot.rst:
# setup_sects, payload_offset, payload_length); the payload closes with its size.
unpack() {
	local image=$1 at length magic
	at=$((($(number "$image" $((0x1f1)) 1) + 1) * 512 + $(number "$image" $((0x248)) 4)))
	length=$(($(number "$image" $((0x24c)) 4) - 4))
	magic=$(number "$image" "$at" 4)
	tail -c +$((at + 1)) "$image" | head -c "$length" | case $magic in
	$((0x587a37fd))) xz -dc ;;
	$((0xfd2fb528))) zstd -qdc ;;
	*) die "the kernel is packed in a way that is not known" ;;
	esac
}

exec 9>"$home/.guest.lock"
flock 9
out=$home/guest.cpio
[[ $out -nt $0 && $out -nt $here/guest-boot.sh && $out -nt $busybox && $out -nt $home/.complete ]] && exit 0

set +o pipefail # head leaves before tail is through
unpack "$home/vmlinuz" >"$home/vmlinux.new"
set -o pipefail
[[ $(head -c 4 "$home/vmlinux.new") == $'\177ELF' ]] || die "the kernel does not unpack"
mv "$home/vmlinux.new" "$home/vmlinux"

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,dev,proc,sys,modules,host,upper,root}
cp "$busybox" "$tree/bin/busybox"
install -m 755 "$here/guest-boot.sh" "$tree/init"

# in the order in which they have to be loaded
n=100
modprobe -d "$home" -S "$(cat "$home/release")" -a --show-depends "${wanted[@]}" | while read -r word file _; do
	[[ $word == insmod ]] || continue
	n=$((n + 1))
	name=$(basename "$file")
	case $name in
	*.ko) cp "$file" "$tree/modules/$n-$name" ;;
	*.ko.xz) xz -dc "$file" >"$tree/modules/$n-${name%.xz}" ;;
	*.ko.zst) zstd -qdc "$file" >"$tree/modules/$n-${name%.zst}" ;;
	*) die "$name: what kind of module is this?" ;;
	esac
done

# not compressed: the emulated processor is what is slow
(cd "$tree" && find . -print0 | cpio --null -o -H newc --quiet -R 0:0) >"$out.new"
mv "$out.new" "$out"
