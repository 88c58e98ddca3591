/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data of repo_check.h: packs are read whole by several threads; then the entries of those that are damaged. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/image/codec.h"
#include "lib/image/digest.h"
#include "lib/repo/entry_check.h"
#include "lib/repo/pack.h"
#include "lib/repo/repo_check_private.h"

#define THREADS_MAX   64u
#define THREADS_USUAL 4u
#define TELL_EVERY_NS 100000000L

struct reading {
	struct check *check;
	atomic_size_t next;
	atomic_uint_fast64_t done; /* bytes */
	uint64_t total;
	atomic_uint_fast64_t entries, packs;
	atomic_int fatal;
	struct err fatal_err; /* guarded by check->lock, as what follows */
	unsigned int running; /* threads */
	pthread_cond_t ended; /* one of them did */
};

/* ---- one pack ------------------------------------------------------------------------------------ */

struct reader {
	struct reading *all;
	pthread_t thread;
	struct entry_checker *checker; /* NULL: the keys do not allow it */
	uint8_t *bytes;
	size_t size;
};

static void pack_failed(struct reader *k, struct check_pack *p, const char *name, const char *what)
{
	atomic_store(&p->damaged, true);
	check_report_object(k->all->check, name, "%s", what);
}

/* What a pack says it holds, when its bytes are those that were written: 0, or an error that ends the check. */
static int pack_check_entries(struct reader *k, struct check_pack *p, const char *name,
			      struct err *e)
{
	struct check *c = k->all->check;
	_cleanup_(crypt_session_freep) struct crypt_session *session = NULL;
	_cleanup_free_ struct repo_entry *entries = NULL;
	struct repo_pack_head head;
	struct err why = { 0 };
	size_t n = 0;
	int r;

	r = pack_head_check(k->bytes, p->size, REPO_PURPOSE_PACK, c->repo->format.id, &head, &why);
	if (r >= 0) {
		r = pack_read_index(c->repo->store, p->hash, c->repo->format.id, false, &entries,
				    &n, &why);
	}
	if (r >= 0 && c->repo->crypt && k->checker)
		r = crypt_session_open(c->repo->crypt, head.session, &session, &why);
	for (size_t i = 0; r >= 0 && k->checker && i < n; i++) {
		r = entry_check(k->checker, &entries[i], session,
				k->bytes + le32_get(entries[i].offset), &why);
		atomic_fetch_add(&k->all->entries, 1);
	}
	if (r == -EBADMSG || r == -EXDEV || r == -ENOTSUP) {
		pack_failed(k, p, name, why.text);
		return 0;
	}
	if (r < 0 && r != -ENOENT && e)
		*e = why;
	return r == -ENOENT ? 0 : r;
}

static int pack_read(struct reader *k, struct check_pack *p, struct err *e)
{
	char name[PACK_NAME_SIZE], what[ERR_TEXT_MAX];
	uint8_t hash[DIGEST_SIZE];
	struct err why = { 0 };
	int r;

	pack_name(p->hash, name);
	if (p->size > k->size) {
		free(k->bytes);
		k->size = 0;
		k->bytes = p->size > REPO_PACK_MAX ? NULL : malloc(p->size);
		if (!k->bytes && p->size > REPO_PACK_MAX)
			return pack_failed(k, p, name, "is larger than a pack can be"), 0;
		if (!k->bytes)
			return err_oom(e);
		k->size = p->size;
	}
	r = store_get(k->all->check->repo->store, name, 0, k->bytes, p->size, &why);
	/* pruned since it was listed */
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		snprintf(what, sizeof(what), "cannot be read: %.400s", why.text);
		return pack_failed(k, p, name, what), 0;
	}
	digest_of(&(struct iovec){ k->bytes, p->size }, 1, hash);
	if (memcmp(hash, p->hash, sizeof(hash)) != 0)
		return pack_failed(k, p, name, "is damaged: its bytes do not have its name"), 0;
	r = pack_check_entries(k, p, name, e);
	if (r >= 0 && !atomic_load(&p->damaged))
		check_state_note(k->all->check, p);
	return r;
}

/* ---- threads ------------------------------------------------------------------------------------- */

static void *reader_main(void *arg)
{
	struct reader *k = arg;
	struct reading *g = k->all;
	struct check *c = g->check;

	while (!cancel_raised(c->settings->cancel) && !atomic_load(&g->fatal)) {
		const size_t i = atomic_fetch_add(&g->next, 1);
		struct err e = { 0 };
		int r;

		if (i >= c->n_packs)
			break;
		if (!c->packs[i].chosen)
			continue;
		r = pack_read(k, &c->packs[i], &e);
		atomic_fetch_add(&g->done, c->packs[i].size);
		atomic_fetch_add(&g->packs, 1);
		if (r < 0) {
			pthread_mutex_lock(&c->lock);
			g->fatal_err = e;
			pthread_mutex_unlock(&c->lock);
			atomic_store(&g->fatal, r);
		}
	}
	pthread_mutex_lock(&c->lock);
	g->running--;
	pthread_cond_signal(&g->ended);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Telling how far they are is done without the lock: it may take a while, and they report under it. */
static void readers_wait(struct reading *g)
{
	const struct repo_check_settings *s = g->check->settings;
	bool running = true;

	while (running) {
		struct timespec until;

		if (s->progress)
			s->progress(s->ctx, atomic_load(&g->done), g->total);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += TELL_EVERY_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_mutex_lock(&g->check->lock);
		if (g->running)
			pthread_cond_timedwait(&g->ended, &g->check->lock, &until);
		running = g->running;
		pthread_mutex_unlock(&g->check->lock);
	}
}

static unsigned int readers_count(const struct repo_check_settings *s)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (s->threads)
		return MIN(s->threads, THREADS_MAX);
	return MIN((unsigned int)MAX(cpus, 1L), THREADS_USUAL);
}

static int reader_start(struct reader *k)
{
	struct reading *g = k->all;
	int r;

	pthread_mutex_lock(&g->check->lock);
	r = -pthread_create(&k->thread, NULL, reader_main, k);
	g->running += r >= 0;
	pthread_mutex_unlock(&g->check->lock);
	return r;
}

static int readers_run(struct reading *g, struct err *e)
{
	const unsigned int n = readers_count(g->check->settings);
	_cleanup_free_ struct reader *readers = calloc(n, sizeof(*readers));
	unsigned int started = 0;
	int r = readers ? 0 : -ENOMEM;

	for (unsigned int i = 0; i < n && r >= 0; i++) {
		readers[i].all = g;
		if (check_can_open(g->check))
			r = entry_checker_new(g->check->repo, &readers[i].checker);
		if (r < 0)
			break;
		r = reader_start(&readers[i]);
		started += r >= 0;
	}
	if (r < 0)
		atomic_store(&g->fatal, r);
	readers_wait(g);
	for (unsigned int i = 0; i < started; i++)
		pthread_join(readers[i].thread, NULL);
	for (unsigned int i = 0; readers && i < n; i++) {
		entry_checker_free(readers[i].checker);
		free(readers[i].bytes);
	}
	if (r < 0)
		return err_set_errno(e, r, "cannot read the packs");
	return 0;
}

/* ---- the entries of packs that are damaged ------------------------------------------------------- */

struct judge {
	struct check *check;
	struct entry_checker *checker;
	uint8_t *stored;
	size_t size;
};

static int on_entry(void *ctx, uint64_t ordinal, uint32_t pack, const struct repo_entry *entry)
{
	struct judge *j = ctx;
	struct check *c = j->check;
	const struct check_pack *p = &c->packs[c->of_index[pack]];
	const struct repo_place place = { .pack = pack, .entry = *entry, .ordinal = ordinal };
	const size_t len = le32_get(entry->frame_len);
	int r;

	if (!p->chosen || !atomic_load(&p->damaged) || check_is_bad(c, ordinal))
		return 0;
	if (len > j->size) {
		void *more = realloc(j->stored, len);

		if (!more)
			return -ENOMEM;
		j->stored = more;
		j->size = len;
	}
	r = repo_read_stored(c->repo, &place, j->stored, NULL);
	if (r >= 0)
		r = entry_check_place(j->checker, &place, j->stored, NULL);
	if (r < 0)
		check_set_bad(c, ordinal);
	return 0;
}

static int check_damaged_packs(struct check *c, struct err *e)
{
	struct judge j = { .check = c };
	bool any = false;
	int r;

	for (size_t i = 0; i < c->n_packs; i++)
		any |= c->packs[i].chosen && atomic_load(&c->packs[i].damaged);
	if (!any || !c->indexed || !check_can_open(c))
		return 0;
	r = entry_checker_new(c->repo, &j.checker);
	if (r >= 0)
		r = repo_index_each(c->repo->index, on_entry, &j, e);
	entry_checker_free(j.checker);
	free(j.stored);
	return r == -ENOMEM ? err_oom(e) : r;
}

int check_packs(struct check *c, struct err *e)
{
	struct reading g = { .check = c, .ended = PTHREAD_COND_INITIALIZER };
	int r;

	if (!c->settings->parts)
		return 0;
	c->result->decoded = check_can_open(c);
	r = check_state_take(c, e);
	for (size_t i = 0; i < c->n_packs; i++)
		g.total += c->packs[i].chosen ? c->packs[i].size : 0;
	if (r >= 0)
		r = readers_run(&g, e);
	c->result->packs_read = atomic_load(&g.packs);
	c->result->bytes_read = atomic_load(&g.done);
	c->result->entries_checked = atomic_load(&g.entries);
	if (r >= 0 && atomic_load(&g.fatal)) {
		if (e)
			*e = g.fatal_err;
		return atomic_load(&g.fatal);
	}
	if (r >= 0 && cancel_raised(c->settings->cancel))
		return err_set(e, -ECANCELED, "interrupted");
	if (r < 0)
		return r;
	return check_damaged_packs(c, e);
}
