#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# kernels.sh 6.1|6.12 - Debian's newest kernel of that series, with its modules and its headers, under
# build/vm/kernels/VERSION. Nothing is installed. There are then:
#
#   vmlinuz, config    the kernel and its configuration
#   modules            lib/modules/RELEASE, with modules.dep
#   build              for make -C …/build M=…, or KDIR=
#   release            what uname -r will say
#
# What is there is left alone; VM_KERNEL_REFRESH=1 looks for a newer one.

set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
kernels=$top/build/vm/kernels
format=2 # of the directory: another number fetches anew
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

die() {
	printf 'kernels.sh: %s\n' "$*" >&2
	exit 1
}

# dependency_of PACKAGE PATTERN: the one package it depends on whose name matches.
dependency_of() {
	apt-cache depends "$1" 2>/dev/null | sed -n "s/^[ |]*Depends: \($2\)$/\1/p" | head -n 1
}

# find_release: what the meta package of the series points to. Debian's default kernel has a meta
# package without a number.
find_release() {
	local meta image
	for meta in "linux-image-$version-amd64" linux-image-amd64; do
		image=$(dependency_of "$meta" "linux-image-${version//./\\.}\\..*")
		[[ $image ]] && break
	done
	[[ $image ]] || return 1
	release=${image#linux-image-}
}

download() {
	local common kbuild
	echo "apt knows no meta package of it" >apt.log
	find_release || return 1
	echo "linux-headers-$release has other dependencies than expected" >apt.log
	common=$(dependency_of "linux-headers-$release" 'linux-headers-.*-common')
	kbuild=$(dependency_of "linux-headers-$release" 'linux-kbuild-.*')
	[[ $common && $kbuild ]] || return 1
	rm -f ./*.deb
	apt-get download -qq "linux-image-$release" "linux-headers-$release" "$common" "$kbuild" \
		>apt.log 2>&1
}

# at_home HEADERS COMMON: the packages expect to lie in /usr/src and /lib/modules; all but these names
# is relative already.
at_home() {
	# shellcheck disable=SC2016 # make's variables
	printf 'include $(dir $(lastword $(MAKEFILE_LIST)))../%s/Makefile\n' "$2" >"usr/src/$1/Makefile"
	ln -sfn "../../../usr/src/$1" "lib/modules/$release/build"
	ln -sfn "../../../usr/src/$2" "lib/modules/$release/source"
	ln -sfn "boot/vmlinuz-$release" vmlinuz
	ln -sfn "boot/config-$release" config
	ln -sfn "lib/modules/$release" modules
	ln -sfn "usr/src/$1" build
}

extract() {
	local deb common
	for deb in *.deb; do
		dpkg-deb -x "$deb" . || die "$deb does not unpack"
	done
	rm -f -- *.deb
	common=$(cd usr/src && echo linux-headers-*-common)
	at_home "linux-headers-$release" "$common"
	[[ -d usr/src/$common && -s vmlinuz && -e build/Module.symvers ]] || die "the packages of $release have another layout"
	depmod -b . "$release" || die "depmod fails on $release"
	printf '%s\n' "$release" >release
	printf '%s\n' "$format" >.complete
}

version=${1:-}
[[ $version =~ ^[0-9]+\.[0-9]+$ ]] || die "usage: kernels.sh 6.1|6.12"
for tool in apt-get apt-cache dpkg-deb depmod flock; do
	command -v "$tool" >/dev/null || die "$tool is not installed"
done
mkdir -p "$kernels"
exec 9>"$kernels/.$version.lock"
flock 9
home=$kernels/$version
[[ ${VM_KERNEL_REFRESH:-} || $(cat "$home/.complete" 2>/dev/null) != "$format" ]] || exit 0

# made beside and moved into place as a whole, so that what is there is complete
work=$kernels/.$version.new
rm -rf "$work" && mkdir "$work" && cd "$work"
trap 'rm -rf "$work"' EXIT
if ! download; then
	apt-get update -qq >apt.log 2>&1 || die "apt-get update: $(tail -n 1 apt.log)"
	download || die "no Debian kernel $version can be had: $(tail -n 1 apt.log)"
fi
extract
cd "$kernels"
rm -rf "$home"
mv "$work" "$home"
printf '%s: %s\n' "$version" "$release"
