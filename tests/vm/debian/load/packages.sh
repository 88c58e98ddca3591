#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# packages.sh PAUSE DEB… - in the guest: install and remove packages until killed, with
# PAUSE seconds between two. The count is in /run/packages.
set -euo pipefail

pause=$1
shift
for ((n = 1; ; n++)); do
	for deb; do
		dpkg -i "$deb" >/dev/null
		sleep "$pause"
	done
	dpkg -P "$(dpkg-deb -f "$1" Package)" >/dev/null
	echo "$n" >/run/packages
done
