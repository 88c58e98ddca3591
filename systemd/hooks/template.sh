#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A hook: called by ambrod with "freeze" before file systems stand still, and with "thaw" after they go on. The image shows an
# instant in between. Copy it to /etc/ambro/hooks.d, as root, mode 0755.
#
#	AMBRO_PHASE    "freeze" or "thaw", as $1
#	AMBRO_SOURCE   the device that is captured; several, one a line, when they are captured together
#	AMBRO_MOUNTS   the mount points that will stand still, one a line
#	AMBRO_JOB      the capture's number: captures of other disks may be under way at the same time
#	AMBRO_TIMEOUT  seconds until it is killed; also, how long the frozen state is held
#
# Exit status 0: done. Any other ends the capture (or is told, with --hooks continue). What is written to stdout and stderr is in
# the journal. A "thaw" comes after every "freeze", also after one that failed or was killed.
set -eu

state=/run/ambro/template-$AMBRO_JOB

case $1 in
freeze)
	# only if what it belongs to is captured
	printf '%s\n' "$AMBRO_MOUNTS" | grep -qx /srv/data || exit 0
	: >"$state"
	# … stop writing …
	;;
thaw)
	[ -e "$state" ] || exit 0
	# … go on writing …
	rm -f "$state"
	;;
esac
