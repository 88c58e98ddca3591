#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# PostgreSQL: nothing has to be stopped. The image shows one instant of all file systems, so what is restored is a database
# after a power cut, and PostgreSQL recovers from that by itself: every committed transaction is there. (This holds as long as data
# directory, WAL and tablespaces are on disks that are captured together, and fsync is on.) pg_backup_start() is for
# copies that are not of one instant.
#
# A checkpoint just before makes that recovery short. It is all that is done here, and may fail without harm:
# capture with --hooks continue if a slow checkpoint shall not end the capture.
#
# This runs as root, who may not become another user in the agent's sandbox. So let PostgreSQL know root (once, as postgres):
#	createuser root && psql -c 'GRANT pg_checkpoint TO root'	(version 15 or later; before: createuser -s root)
set -eu

case $1 in
freeze)
	exec psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres --command=CHECKPOINT
	;;
thaw) ;;
esac
