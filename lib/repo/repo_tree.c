/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/repo_tree.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hex.h"
#include "lib/image/codec.h"

/* Chunk numbers have at most 48 bits, 12 of them per level. */
#define DEPTH_MAX 4u
/* Bytes of an id that name a page to people. */
#define ID_SHOWN 8

/* What a page says of what is below an entry. */
struct entry {
	enum chunk_state state;
	struct chunk_id id; /* CHUNK_DATA */
};

/* A page while it is made, beside the parent's at the same place. */
struct making {
	unsigned int level;
	bool is_root;
	struct entry was; /* the parent's word on the whole page */
	void *parent_body;
	struct page_view parent;
	uint32_t parent_rank; /* of the entry that comes next */
	uint32_t count;
	uint32_t done, n_ids;
	uint8_t states[AMBRO_PAGE_FANOUT];
	struct chunk_id ids[AMBRO_PAGE_FANOUT];
};

struct walk {
	const struct repo_tree *t;
	struct err *e;
	uint64_t leaves;
	struct making *levels[DEPTH_MAX];
	uint8_t page[AMBRO_PAGE_MAX];
	struct repo_tree_result result;
};

/* How many leaves one page of @level stands for. */
static uint64_t level_leaves(unsigned int level)
{
	uint64_t n = 1;

	while (level--)
		n *= AMBRO_PAGE_FANOUT;
	return n;
}

/* Is all that was said below page @number of @level one state? */
static bool walk_is_uniform(const struct walk *w, unsigned int level, uint64_t number,
			    enum chunk_state *ret)
{
	const uint64_t span = level_leaves(level), first = number * span;
	const uint64_t end = MIN(first + span, w->leaves);
	enum chunk_state state;
	struct page_view leaf;

	for (uint64_t i = first; i < end; i++) {
		if (tree_leaf(w->t->said, i, &leaf, &state)) {
			if (memcmp(leaf.states, leaf.states + 1, leaf.count - 1) != 0)
				return false;
			state = (enum chunk_state)leaf.states[0];
		}
		if (i > first && state != *ret)
			return false;
		*ret = state;
	}
	return *ret != CHUNK_DATA;
}

/* ---- the parent's side -------------------------------------------------------------------------- */

static int making_fetch_parent(struct walk *w, struct making *m, size_t *ret_len)
{
	const struct page_source *pages = w->t->pages;

	if (pages)
		return pages->read(pages->ctx, &m->was.id, &m->parent_body, ret_len, w->e);
	return repo_read(w->t->repo, &m->was.id, REPO_KIND_PAGE, &m->parent_body, ret_len, w->e);
}

static int making_read_parent(struct walk *w, struct making *m)
{
	char shown[2 * ID_SHOWN + 1];
	struct chunk_id found;
	size_t len;
	int r;

	r = making_fetch_parent(w, m, &len);
	if (r == -ENOENT) {
		return err_set(w->e, -EBADMSG, "%s lacks the page %s of the parent image",
			       w->t->pages ? "what is kept of the last image" : "the repository",
			       hex_encode(m->was.id.b, ID_SHOWN, shown));
	}
	if (r < 0)
		return r;
	w->result.pages_read++;
	chunk_id_of(m->parent_body, len, &found);
	if (!chunk_id_equal(&found, &m->was.id) ||
	    page_parse(m->parent_body, len, m->level, m->count, &m->parent) < 0) {
		return err_set(w->e, -EBADMSG,
			       "the page %s of the parent image is not the right one",
			       hex_encode(m->was.id.b, ID_SHOWN, shown));
	}
	return 0;
}

/* Of the parent's page at this place, the next entry. */
static void making_parent_next(struct making *m, struct entry *ret)
{
	const uint32_t i = m->done;

	*ret = (struct entry){ .state = m->was.state };
	if (m->was.state != CHUNK_DATA)
		return;
	assert(m->parent.states);
	ret->state = (enum chunk_state)m->parent.states[i];
	if (ret->state == CHUNK_DATA)
		ret->id = m->parent.ids[m->parent_rank++];
}

/* ---- the new page ------------------------------------------------------------------------------- */

static int walk_begin(struct walk *w, unsigned int level, uint64_t number, const struct entry *was,
		      struct making **ret)
{
	const uint64_t chunks = tree_chunks(w->t->said);
	const uint64_t entries = level ? (w->leaves - 1) / level_leaves(level - 1) + 1 : chunks;
	struct making *m = w->levels[level];

	assert(m);
	m->level = level;
	m->is_root = entries <= AMBRO_PAGE_FANOUT;
	m->was = *was;
	m->count = (uint32_t)MIN(entries - number * AMBRO_PAGE_FANOUT, (uint64_t)AMBRO_PAGE_FANOUT);
	m->parent_rank = m->done = m->n_ids = 0;
	free(TAKE_PTR(m->parent_body));
	*ret = m;
	return was->state == CHUNK_DATA ? making_read_parent(w, m) : 0;
}

static void making_add(struct making *m, const struct entry *entry)
{
	m->states[m->done++] = (uint8_t)entry->state;
	if (entry->state == CHUNK_DATA)
		m->ids[m->n_ids++] = entry->id;
}

/* The page is whole: store it, if there has to be one, and say what stands for it in the page above. */
static int walk_end(struct walk *w, const struct making *m, struct entry *ret)
{
	const struct ambro_page head = { .level = (uint8_t)m->level, .count = le32(m->count) };
	const size_t len = sizeof(head) + m->count + m->n_ids * sizeof(*m->ids);

	ret->state = (enum chunk_state)m->states[0];
	if (!m->is_root && ret->state <= CHUNK_ZERO &&
	    !memcmp(m->states, m->states + 1, m->count - 1))
		return 0;
	memcpy(w->page, &head, sizeof(head));
	memcpy(w->page + sizeof(head), m->states, m->count);
	memcpy(w->page + sizeof(head) + m->count, m->ids, m->n_ids * sizeof(*m->ids));
	ret->state = CHUNK_DATA;
	chunk_id_of(w->page, len, &ret->id);
	if (m->was.state == CHUNK_DATA && chunk_id_equal(&ret->id, &m->was.id))
		return 0;
	return w->t->emit(w->t->ctx, w->page, len, &ret->id);
}

static int walk_leaf(struct walk *w, uint64_t number, const struct entry *was, struct entry *ret)
{
	enum chunk_state all = CHUNK_FREE;
	struct page_view said;
	struct making *m;
	uint32_t rank = 0;
	int r = walk_begin(w, 0, number, was, &m);

	if (r < 0)
		return r;
	if (!tree_leaf(w->t->said, number, &said, &all))
		said.states = NULL;
	while (m->done < m->count) {
		struct entry old, now = { .state = all };

		making_parent_next(m, &old);
		if (said.states)
			now.state = (enum chunk_state)said.states[m->done];
		if (now.state == CHUNK_DATA)
			now.id = said.ids[rank++];
		if (now.state == CHUNK_SAME)
			now = old;
		w->result.data += (now.state == CHUNK_DATA) - (old.state == CHUNK_DATA);
		making_add(m, &now);
	}
	return walk_end(w, m, ret);
}

/* At most DEPTH_MAX deep. NOLINTNEXTLINE(misc-no-recursion) */
static int walk_page(struct walk *w, unsigned int level, uint64_t number, const struct entry *was,
		     struct entry *ret)
{
	enum chunk_state all = CHUNK_DATA;
	struct making *m;
	int r;

	*ret = *was;
	if (walk_is_uniform(w, level, number, &all)) {
		if (all == CHUNK_SAME)
			return 0;
		if (all <= CHUNK_ZERO && was->state != CHUNK_DATA &&
		    w->leaves > level_leaves(level)) {
			ret->state = all;
			return 0;
		}
	}
	if (!level)
		return walk_leaf(w, number, was, ret);
	r = walk_begin(w, level, number, was, &m);
	while (r >= 0 && m->done < m->count) {
		struct entry old, now;

		making_parent_next(m, &old);
		r = walk_page(w, level - 1, number * AMBRO_PAGE_FANOUT + m->done, &old, &now);
		if (r >= 0)
			making_add(m, &now);
	}
	return r < 0 ? r : walk_end(w, m, ret);
}

static void walk_free(struct walk *w)
{
	for (unsigned int i = 0; w && i < DEPTH_MAX; i++) {
		if (w->levels[i])
			free(w->levels[i]->parent_body);
		free(w->levels[i]);
	}
	free(w);
}
DEFINE_CLEANUP(struct walk, walk_free);

int repo_tree_make(const struct repo_tree *t, struct repo_tree_result *ret, struct err *e)
{
	_cleanup_(walk_freep) struct walk *w = calloc(1, sizeof(*w));
	const uint64_t chunks = tree_chunks(t->said);
	const unsigned int depth = tree_depth(chunks);
	struct entry was = { .state = CHUNK_FREE }, root;
	int r;

	if (!w)
		return err_oom(e);
	if (!t->parent && tree_count(t->said, CHUNK_SAME)) {
		return err_set(e, -EBADMSG,
			       "chunks are the same as in a parent, but there is none");
	}
	if (depth > DEPTH_MAX)
		return err_set(e, -EINVAL, "a region of %" PRIu64 " chunks is too large", chunks);
	w->t = t;
	w->e = e;
	w->leaves = (chunks - 1) / AMBRO_PAGE_FANOUT + 1;
	for (unsigned int i = 0; i < depth; i++) {
		w->levels[i] = calloc(1, sizeof(*w->levels[i]));
		if (!w->levels[i])
			return err_oom(e);
	}
	if (t->parent)
		was = (struct entry){ CHUNK_DATA, *t->parent };
	r = walk_page(w, depth - 1, 0, &was, &root);
	if (r < 0)
		return r;
	w->result.root = root.id;
	*ret = w->result;
	return 0;
}
