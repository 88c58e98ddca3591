/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/image/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd_errors.h>

#include <zstd.h>

#include "lib/image/digest.h"

#define CODEC_LEVEL_LEAST (-7)
/* From here on the caller has all the time in the world: no guess, the real attempt. */
#define CODEC_LEVEL_NO_SAMPLE 10

/*
 * The sample is a 32nd of the chunk, in four to eight pieces: so many places find what a file system puts
 * beside each other. Level 1, because below it zstd tries no Huffman coding, which is all there is to gain
 * in text-like data such as base64.
 */
#define SAMPLE_PIECES_MIN ((size_t)4)
#define SAMPLE_PIECES_MAX ((size_t)8)
#define SAMPLE_PIECE_MAX  ((size_t)4096)
#define SAMPLE_SHARE	  ((size_t)32)
#define SAMPLE_LEVEL	  1
/* Chunks below this are just tried. */
#define SAMPLE_PLAIN_MIN ((size_t)128 << 10)
/* Less than 1/40 (2.5 %) saved is not worth the time, now and at each restore. */
#define SAMPLE_GAIN_DIVISOR 40

struct codec {
	ZSTD_CCtx *compressor;
	ZSTD_DCtx *decompressor;
	int level;
};

int codec_level_parse(const char *text, int *ret)
{
	char *end;
	long v;

	if (!strcmp(text, "fast")) {
		*ret = CODEC_LEVEL_FAST;
		return 0;
	}
	if (!strcmp(text, "default")) {
		*ret = CODEC_LEVEL_DEFAULT;
		return 0;
	}
	if (!strcmp(text, "max")) {
		*ret = CODEC_LEVEL_MAX;
		return 0;
	}
	/* strtol() would take leading spaces and a plus sign */
	if (!*text || strspn(text, "-0123456789") != strlen(text))
		return -EINVAL;
	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || *end || v < CODEC_LEVEL_LEAST || v > CODEC_LEVEL_MAX)
		return -EINVAL;
	*ret = (int)v;
	return 0;
}

int codec_new(int level, struct codec **ret)
{
	_cleanup_(codec_freep) struct codec *c = NULL;

	if (level < CODEC_LEVEL_LEAST || level > CODEC_LEVEL_MAX)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->level = level;
	c->compressor = ZSTD_createCCtx();
	c->decompressor = ZSTD_createDCtx();
	if (!c->compressor || !c->decompressor)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_contentSizeFlag, 1);
	ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_checksumFlag, 1);
	*ret = TAKE_PTR(c);
	return 0;
}

void codec_free(struct codec *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->compressor);
	ZSTD_freeDCtx(c->decompressor);
	free(c);
}

size_t codec_bound(size_t plain_len)
{
	return ZSTD_compressBound(plain_len);
}

static size_t codec_encode(struct codec *c, int level, const struct iovec *plain,
			   const struct iovec *frame)
{
	ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_compressionLevel, level);
	return ZSTD_compress2(c->compressor, frame->iov_base, frame->iov_len, plain->iov_base,
			      plain->iov_len);
}

static bool codec_is_compressible(struct codec *c, const uint8_t *plain, size_t plain_len)
{
	const size_t pieces = plain_len / SAMPLE_PLAIN_MIN < SAMPLE_PIECES_MAX ? SAMPLE_PIECES_MIN
									       : SAMPLE_PIECES_MAX;
	const size_t piece = MIN(SAMPLE_PIECE_MAX, plain_len / SAMPLE_SHARE / pieces);
	uint8_t out[SAMPLE_PIECE_MAX + 512];
	size_t stride, sum = 0;

	if (plain_len < SAMPLE_PLAIN_MIN)
		return true;
	stride = (plain_len - piece) / (pieces - 1);
	for (size_t i = 0; i < pieces; i++) {
		struct iovec in = { (void *)(plain + i * stride), piece };
		size_t n = codec_encode(c, SAMPLE_LEVEL, &in, &(struct iovec){ out, sizeof(out) });

		if (ZSTD_isError(n))
			return true;
		sum += n;
	}
	return sum < pieces * (piece - piece / SAMPLE_GAIN_DIVISOR);
}

ssize_t codec_compress(struct codec *c, const void *plain, size_t plain_len, void *frame,
		       size_t frame_size)
{
	struct iovec in = { (void *)plain, plain_len }, out = { frame, frame_size };
	int level = c->level;
	size_t n;

	/* the least level steps over the input so fast that the blocks come out raw */
	if (level < CODEC_LEVEL_NO_SAMPLE && !codec_is_compressible(c, plain, plain_len))
		level = ZSTD_minCLevel();
	n = codec_encode(c, level, &in, &out);
	if (!ZSTD_isError(n))
		return (ssize_t)n;
	switch (ZSTD_getErrorCode(n)) {
	case ZSTD_error_memory_allocation:
		return -ENOMEM;
	case ZSTD_error_dstSize_tooSmall:
		return -ENOSPC;
	default:
		return -EINVAL;
	}
}

int codec_decompress(struct codec *c, const void *frame, size_t frame_len, void *plain,
		     size_t plain_len)
{
	const uint8_t *head = frame;
	le32_t magic;
	size_t n;

	if (frame_len < sizeof(magic) + 1)
		return -EBADMSG;
	memcpy(&magic, frame, sizeof(magic));
	/* bit 2 of the descriptor: a content checksum follows */
	if (le32_get(magic) != ZSTD_FRAME_MAGIC || !(head[4] & 4))
		return -EBADMSG;
	/* zstd would decode several frames in a row */
	if (ZSTD_findFrameCompressedSize(frame, frame_len) != frame_len ||
	    ZSTD_getFrameContentSize(frame, frame_len) != plain_len)
		return -EBADMSG;
	n = ZSTD_decompressDCtx(c->decompressor, plain, plain_len, frame, frame_len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	return n == plain_len ? 0 : -EBADMSG;
}

void chunk_id_of(const void *plain, size_t len, struct chunk_id *ret)
{
	struct {
		char label[8];
		le64_t len;
	} head = { .len = le64(len) };

	memcpy(head.label, AMBRO_ID_LABEL, sizeof(head.label));
	digest_tree(&head, sizeof(head), plain, len, AMBRO_ID_LEAF, ret->b);
}

bool chunk_id_equal(const struct chunk_id *a, const struct chunk_id *b)
{
	return !memcmp(a->b, b->b, sizeof(a->b));
}

void record_check(const void *head, size_t head_len, const void *body, size_t body_len,
		  uint8_t ret[AMBRO_CHECK_SIZE])
{
	struct iovec parts[] = { { (void *)head, head_len }, { (void *)body, body_len } };
	uint8_t full[DIGEST_SIZE];

	digest_of(parts, ARRAY_SIZE(parts), full);
	memcpy(ret, full, AMBRO_CHECK_SIZE);
}

bool chunk_is_zero(const void *plain, size_t len)
{
	const uint8_t *p = plain;
	const size_t first = MIN(len, (size_t)16);

	for (size_t i = 0; i < first; i++) {
		if (p[i])
			return false;
	}
	/* each byte equals the one 16 before it; memcmp() uses the widest registers there are */
	return !memcmp(p, p + first, len - first);
}

/* RFC 8878: magic, descriptor (8-byte content size), window (128 KiB), content size, RLE blocks. */
#define ZERO_HEAD_LEN	14u
#define ZERO_DESCRIPTOR 0xC0
#define ZERO_WINDOW	0x38
#define ZERO_BLOCK	(UINT64_C(128) << 10)
#define ZERO_BLOCK_LEN	4u
#define BLOCK_LAST	1u
#define BLOCK_RLE	(1u << 1)

size_t codec_zero_frame_len(uint64_t plain_len)
{
	return ZERO_HEAD_LEN + (size_t)DIV_ROUND_UP(plain_len, ZERO_BLOCK) * ZERO_BLOCK_LEN;
}

void codec_zero_frame(uint64_t plain_len, uint8_t *frame)
{
	le32_t magic = le32(ZSTD_FRAME_MAGIC);
	le64_t size = le64(plain_len);

	memcpy(frame, &magic, sizeof(magic));
	frame[4] = ZERO_DESCRIPTOR;
	frame[5] = ZERO_WINDOW;
	memcpy(frame + 6, &size, sizeof(size));
	frame += ZERO_HEAD_LEN;
	for (uint64_t left = plain_len; left;) {
		uint32_t n = (uint32_t)MIN(left, ZERO_BLOCK);
		/* the block's header is 3 bytes; the fourth is the byte that is repeated: 0 */
		le32_t block = le32(n << 3 | BLOCK_RLE | (n == left ? BLOCK_LAST : 0));

		memcpy(frame, &block, sizeof(block));
		frame += ZERO_BLOCK_LEN;
		left -= n;
	}
}
