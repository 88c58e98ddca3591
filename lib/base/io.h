/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io - whole reads and writes, small files, time.
 *
 * All functions return 0 (or a count) on success and a negative errno on failure, are restarted after
 * EINTR, and may block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exactly @len bytes at @offset; -ENODATA when the file ends before. */
int io_pread_all(int fd, void *buf, size_t len, uint64_t offset);
/* As many as there are, up to @len; returns the count, which is short only at the end of the file. */
ssize_t io_pread_some(int fd, void *buf, size_t len, uint64_t offset);
int io_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);
/* Sequential; for pipes, sockets and files. */
int io_write_all(int fd, const void *buf, size_t len);
/* Sequential read of exactly @len bytes; -ENODATA when the stream ends before. */
int io_read_all(int fd, void *buf, size_t len);

/*
 * The first line of a small text file (sysfs, procfs), without its newline, into @buf of @size bytes
 * (always terminated). Returns its length.
 */
ssize_t io_read_line(const char *path, char *buf, size_t size);
/* A decimal number from a file such as /sys/block/sda/size. */
int io_read_u64(const char *path, uint64_t *ret);
/* Write @text into an existing file (sysfs); never creates one. */
int io_write_text(const char *path, const char *text);

/*
 * Is @fd the socket that @stream names, "DEVICE:INODE"? systemd says so in JOURNAL_STREAM of what it connected to the journal; it may
 * have been redirected since. NULL: no.
 */
bool io_is_stream(int fd, const char *stream);

/* A device's or a regular file's size in bytes. */
int io_size(int fd, uint64_t *ret);

/* What the kernel says could be had without swapping, bytes; 0: it does not say. */
uint64_t io_memory_available(void);

uint64_t io_now_ns(void);      /* CLOCK_MONOTONIC */
uint64_t io_boot_ns(void);     /* CLOCK_BOOTTIME: goes on while the machine sleeps */
uint64_t io_realtime_ns(void); /* CLOCK_REALTIME, since 1970 */
