/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * array - arrays that grow by doubling, of which somebody knows how many items they have and how many fit.
 *
 *	if (ARRAY_ROOM(l->items, l->count, l->allocated, 64) < 0)
 *		return -ENOMEM;
 *	l->items[l->count++] = *item;
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * See to it that one more fits behind the @count items of @items: NULL, or allocated with room for @allocated, which is 0 or
 * becomes @first and its doubles. 0, or -ENOMEM: it is all as it was. The words are read more than once.
 */
#define ARRAY_ROOM(items, count, allocated, first)                                           \
	({                                                                                   \
		const bool _full = (count) == (allocated);                                   \
		const typeof(allocated) _room = (allocated) ? (allocated)*2 : (first);       \
		typeof(items) _more = _full ? reallocarray((items), _room, sizeof(*(items))) \
					    : NULL;                                          \
		(items) = _more ? _more : (items);                                           \
		(allocated) = _more ? _room : (allocated);                                   \
		_full && !_more ? -ENOMEM : 0;                                               \
	})
