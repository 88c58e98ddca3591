#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# trim.sh PAUSE WINDOW - in the guest: free some space and discard WINDOW bytes' worth of what is free,
# another place each time, until killed. The count is in /run/trims.
set -euo pipefail

size=$(findmnt -bno SIZE /)
for ((n = 0; ; n++)); do
	head -c 4M /dev/urandom >/var/tmp/freed
	sync /var/tmp/freed
	rm /var/tmp/freed
	# a volume under a device-mapper snapshot takes none
	said=$(fstrim --offset $((n * $2 % size)) --length "$2" / 2>&1) || [[ $said == *'not supported'* ]] || {
		echo "$said" >&2
		exit 1
	}
	echo "$n" >/run/trims
	sleep "$1"
done
