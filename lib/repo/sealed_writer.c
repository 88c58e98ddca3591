/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/repo/sealed_writer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct sealed_writer {
	struct sealed_head *head;
	struct image_sink sink;
	uint8_t *plain, *sealed; /* one segment each */
	size_t size, used;	 /* of plain */
	uint64_t number;	 /* of the segment that is being filled */
	uint64_t bytes;
	bool begun;
};

int sealed_writer_new(struct sealed_head *head, const struct image_sink *sink,
		      struct sealed_writer **ret)
{
	_cleanup_(sealed_head_freep) struct sealed_head *owned = head;
	_cleanup_(sealed_writer_freep) struct sealed_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->head = TAKE_PTR(owned);
	w->sink = *sink;
	w->size = (size_t)1 << head->shift;
	w->plain = malloc(w->size);
	w->sealed = malloc(w->size + SEALED_EXTRA);
	if (!w->plain || !w->sealed)
		return -ENOMEM;
	*ret = TAKE_PTR(w);
	return 0;
}

void sealed_writer_free(struct sealed_writer *w)
{
	if (!w)
		return;
	sealed_head_free(w->head);
	free(w->plain);
	free(w->sealed);
	free(w);
}

static int writer_put(struct sealed_writer *w, const void *buf, size_t len)
{
	int r = w->sink.write(w->sink.ctx, buf, len);

	if (r == 0)
		w->bytes += len;
	return r;
}

static int writer_begin(struct sealed_writer *w)
{
	if (w->begun)
		return 0;
	w->begun = true;
	return writer_put(w, w->head->bytes, w->head->len);
}

static int writer_segment(struct sealed_writer *w, bool final)
{
	const size_t len = w->used;

	sealed_segment_seal(w->head, w->number++, final, w->plain, len, w->sealed);
	w->used = 0;
	return writer_put(w, w->sealed, len + SEALED_EXTRA);
}

int sealed_writer_write(struct sealed_writer *w, const void *buf, size_t len)
{
	const uint8_t *from = buf;
	int r = writer_begin(w);

	while (r == 0 && len) {
		size_t n;

		/* a full one waits until it is known whether it is the last */
		if (w->used == w->size)
			r = writer_segment(w, false);
		n = MIN(len, w->size - w->used);
		memcpy(w->plain + w->used, from, n);
		w->used += n;
		from += n;
		len -= n;
	}
	return r;
}

int sealed_writer_finish(struct sealed_writer *w)
{
	int r = writer_begin(w);

	return r < 0 ? r : writer_segment(w, true);
}

uint64_t sealed_writer_bytes(const struct sealed_writer *w)
{
	return w->bytes;
}
