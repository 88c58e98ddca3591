/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_clock.h"

#include <string.h>
#include <sys/stat.h>

#include "lib/base/io.h"
#include "lib/image/digest.h"

/*
 * What is the same as long as CLOCK_BOOTTIME is one clock: the boot, and the time namespace, which shifts it for a container.
 * Hashed: the boot's id is nobody else's business. Where it cannot be read (ProcSubset=pid), the note is of no known boot.
 */
static void clock_read_boot(uint8_t ret[GC_BOOT_SIZE])
{
	char id[64] = { 0 };
	uint8_t hash[DIGEST_SIZE];
	struct stat st = { 0 };
	uint64_t space = 0;
	const struct iovec parts[] = { { id, sizeof(id) }, { &space, sizeof(space) } };

	memset(ret, 0, GC_BOOT_SIZE);
	if (io_read_line("/proc/sys/kernel/random/boot_id", id, sizeof(id)) <= 0)
		return;
	/* kernels before 5.6 have none */
	if (stat("/proc/self/ns/time", &st) == 0)
		space = (uint64_t)st.st_ino;
	digest_of(parts, ARRAY_SIZE(parts), hash);
	memcpy(ret, hash, GC_BOOT_SIZE);
}

void gc_clock_read(struct gc_clock *ret, uint64_t given_ns)
{
	*ret = (struct gc_clock){ .now_ns = given_ns };
	if (given_ns)
		return;
	ret->now_ns = io_realtime_ns();
	ret->boot_ns = io_boot_ns();
	clock_read_boot(ret->boot);
}

void gc_clock_stamp(const struct gc_clock *c, struct gc_object *o)
{
	o->time_ns = c->now_ns;
	o->boot_ns = c->boot_ns;
	memcpy(o->boot, c->boot, sizeof(o->boot));
}

static uint64_t clock_since(uint64_t then, uint64_t now)
{
	return now > then ? now - then : 0;
}

uint64_t gc_clock_age(const struct gc_clock *c, const struct gc_object *o)
{
	static const uint8_t unknown[GC_BOOT_SIZE];
	const uint64_t age = clock_since(o->time_ns, c->now_ns);

	if (memcmp(c->boot, unknown, sizeof(unknown)) == 0 ||
	    memcmp(c->boot, o->boot, sizeof(o->boot)) != 0)
		return age;
	return MIN(age, clock_since(o->boot_ns, c->boot_ns));
}
