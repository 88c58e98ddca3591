/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/gc_turn.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/io.h"
#include "lib/repo/hash_list.h"

static uint64_t turn_limit(enum gc_kind kind)
{
	return kind == GC_REPAIR ? GC_TURN_REPAIR_NS : GC_TURN_PRUNE_NS;
}

static int turn_busy(const struct gc_turn *t, const struct gc_object *other, struct err *e)
{
	const uint64_t limit = turn_limit(other->kind) + GC_CLOCK_SLACK_NS;
	const uint64_t age = other->damaged ? 0 : gc_clock_age(&t->answered, other);
	char name[GC_OBJECT_NAME_SIZE];

	gc_object_name(other->kind, other->hash, name);
	if (other->kind == GC_REPAIR) {
		return err_set(e, -EBUSY,
			       "%s: a repair is at work since %" PRIu64 " minutes, or was killed. "
			       "If none is at work on any machine: 'ambroctl repo repair --alone' "
			       "does it again; or this goes on by itself in %" PRIu64 " hours",
			       name, age / 1000000000 / 60, (limit - age) / 1000000000 / 3600 + 1);
	}
	return err_set(e, -EBUSY,
		       "%s: a prune is at work since %" PRIu64
		       " minutes, or was killed. If none is "
		       "at work on any machine, say --alone; or repair in %" PRIu64 " hours",
		       name, age / 1000000000 / 60, (limit - age) / 1000000000 / 3600 + 1);
}

/* -EBUSY when @o says that its owner is at work, and that hinders us. 1: it is to be taken away. */
static int turn_judge(const struct gc_turn *t, struct gc_object *o, bool alone, struct err *e)
{
	const struct repo *repo = t->repo;
	int r;

	if (alone)
		return 1;
	r = gc_object_get(repo->store, repo->format.id, repo->crypt, o, e);
	if (r == -ENOENT)
		return 0;
	/* it may be that of one who is at work */
	if (r == -EBADMSG || r == -ENOTSUP) {
		o->damaged = true;
	} else if (r < 0) {
		return r;
	}
	if (!o->damaged && gc_clock_age(&t->answered, o) >= turn_limit(o->kind) + GC_CLOCK_SLACK_NS)
		return 1;
	return o->kind == t->note.kind ? 0 : turn_busy(t, o, e);
}

/* All of one kind but our own. */
static int turn_look(const struct gc_turn *t, enum gc_kind kind, bool alone, struct err *e)
{
	_cleanup_(hash_list_done) struct hash_list l = { 0 };
	const char *prefix = kind == GC_REPAIR ? "gc/repair-" : "gc/prune-";
	const struct repo *repo = t->repo;
	int r = hash_list_load(repo->store, prefix, &l, e);

	for (size_t i = 0; r >= 0 && i < l.count; i++) {
		struct gc_object o = { .kind = kind };

		memcpy(o.hash, l.items[i], sizeof(o.hash));
		if (kind == t->note.kind && memcmp(o.hash, t->note.hash, sizeof(o.hash)) == 0)
			continue;
		r = turn_judge(t, &o, alone, e);
		if (r > 0)
			r = gc_object_del(repo->store, kind, o.hash, e);
	}
	return r < 0 ? r : 0;
}

static void turn_read_clock(const struct gc_clock *given, struct gc_clock *ret)
{
	if (given) {
		*ret = *given;
	} else {
		gc_clock_read(ret, 0);
	}
}

int gc_turn_begin(struct gc_turn *t, struct repo *r, enum gc_kind kind,
		  const struct gc_clock *clock, bool alone, struct err *e)
{
	int n;

	*t = (struct gc_turn){ .note.kind = kind, .since_ns = io_boot_ns() };
	if (getrandom(t->note.hash, sizeof(t->note.hash), 0) != sizeof(t->note.hash))
		return err_set_errno(e, -errno, "no random numbers");
	turn_read_clock(clock, &t->put);
	gc_clock_stamp(&t->put, &t->note);
	/* also when the put fails: perhaps it is there */
	t->repo = r;
	n = gc_object_put(r->store, r->format.id, r->crypt, &t->note, e);
	turn_read_clock(clock, &t->answered);
	if (n >= 0)
		n = turn_look(t, kind == GC_REPAIR ? GC_PRUNE : GC_REPAIR, alone, e);
	if (n >= 0)
		n = turn_look(t, kind, alone, e);
	return n;
}

int gc_turn_goes_on(const struct gc_turn *t, struct err *e)
{
	if (!t->repo || io_boot_ns() - t->since_ns < turn_limit(t->note.kind))
		return 0;
	return err_set(e, -ESTALE,
		       "it took so long that others do not wait for it any more: what was done so "
		       "far is right; run it again");
}

void gc_turn_end(struct gc_turn *t)
{
	const struct repo *repo = t->repo;

	if (repo)
		gc_object_del(repo->store, t->note.kind, t->note.hash, NULL);
	t->repo = NULL;
}
