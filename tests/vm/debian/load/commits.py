#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""commits.py CLIENTS PAUSE - in the guest: commit to PostgreSQL until killed, each client one row after
another; the first without a pause, the next with PAUSE seconds between, the next with twice that.

Every commit that was acknowledged is told to the host at once, so that the record of it is on none of
the guest's disks:  CLIENT SEQ BEGAN ACKNOWLEDGED  in nanoseconds of the guest's clock.
"""
import hashlib
import os
import sys
import threading
import time
import traceback

import psycopg2


def client(number, port, pause):
    connection = psycopg2.connect('dbname=postgres user=postgres')
    cursor = connection.cursor()
    seq = 0
    while True:
        seq += 1
        note = hashlib.md5(f'{number}:{seq}'.encode()).hexdigest() * 8
        began = time.time_ns()
        cursor.execute('insert into acknowledged values (%s, %s, %s)', (number, seq, note))
        connection.commit()
        os.write(port, f'{number} {seq} {began} {time.time_ns()}\n'.encode())
        time.sleep(pause)


def until_it_fails(*arguments):
    try:
        client(*arguments)
    finally:
        traceback.print_exc()
        os._exit(1)


def main():
    port = os.open('/dev/virtio-ports/commits', os.O_WRONLY)
    os.seteuid(int(os.environ['POSTGRES_UID']))     # who PostgreSQL lets in is told by the socket
    for number in range(int(sys.argv[1])):
        threading.Thread(target=until_it_fails, args=(number, port, number * float(sys.argv[2]))).start()


main()
