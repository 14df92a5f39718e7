// SPDX-License-Identifier: GPL-2.0-only
/*
 * Answers that lie in the page cache.
 *
 * A worker's answer is private until it is published, for its procedure may hang.  Pages that hold the bytes of a file, got
 * and up to date, hang no more: they are copied to the window when the answer is published, and to no buffer before.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bvec.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pipe_fs_i.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include "rvmrpc_drv.h"

struct rvmrpc_pages {
	u32 at;			/* byte of the answer at which they begin */
	u32 n, max;
	struct bio_vec v[];
};

/* For answers of up to that many bytes; NULL: no memory, so they are copied twice. */
struct rvmrpc_pages *rvmrpc_pages_alloc(u32 bytes)
{
	/* A file's bytes begin and end within a page. */
	u32 max = bytes / PAGE_SIZE + 2;
	struct rvmrpc_pages *pages = kvzalloc(struct_size(pages, v, max), GFP_KERNEL | __GFP_NOWARN);

	if (pages)
		pages->max = max;
	return pages;
}

/* An actor of splice's: as many bytes as it took, 0: no more. */
static int rvmrpc_pages_take(struct pipe_inode_info *pipe, struct pipe_buffer *buf, struct splice_desc *sd)
{
	struct rvmrpc_pages *pages = sd->u.data;

	/* A file system may have smaller pieces than pages. */
	if (pages->n == pages->max)
		return 0;
	get_page(buf->page);
	pages->v[pages->n++] = (struct bio_vec) {
		.bv_page = buf->page,
		.bv_offset = buf->offset,
		.bv_len = sd->len,
	};
	return sd->len;
}

static int rvmrpc_pages_actor(struct pipe_inode_info *pipe, struct splice_desc *sd)
{
	return __splice_from_pipe(pipe, sd, rvmrpc_pages_take);
}

/**
 * rvmrpc_pages_read() - get the pages of a file's bytes
 * @pages: of the call
 * @file: regular file, open for reading
 * @offset: byte of the file
 * @at: byte of the answer
 * @length: how many bytes
 *
 * Context: a worker; sleeps as read() does.
 * Return: bytes there are pages for, fewer than @length if the file has fewer or they are in pieces; or an error.
 */
ssize_t rvmrpc_pages_read(struct rvmrpc_pages *pages, struct file *file, loff_t offset, u32 at, u32 length)
{
	struct splice_desc sd = {
		.total_len = length,
		.pos = offset,
		.u.data = pages,
	};

	pages->at = at;
	return splice_direct_to_actor(file, &sd, rvmrpc_pages_actor);
}

/* Of an answer of @length bytes, to @res; those of others are left as they are. */
void rvmrpc_pages_copy(const struct rvmrpc_pages *pages, void *res, u32 length)
{
	u32 i, at = pages->at;

	for (i = 0; i < pages->n && at < length; i++) {
		const struct bio_vec *v = &pages->v[i];
		u32 bytes = min(v->bv_len, length - at);

		memcpy_from_page((char *)res + at, v->bv_page, v->bv_offset, bytes);
		at += bytes;
	}
}

/* Up to which byte of an answer none of it is in pages. */
u32 rvmrpc_pages_begin(const struct rvmrpc_pages *pages, u32 length)
{
	return pages && pages->n ? min(pages->at, length) : length;
}

/* The call is over. */
void rvmrpc_pages_put(struct rvmrpc_pages *pages)
{
	if (!pages)
		return;
	while (pages->n)
		put_page(pages->v[--pages->n].bv_page);
}
