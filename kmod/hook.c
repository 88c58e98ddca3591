// SPDX-License-Identifier: GPL-2.0-only
/*
 * which disks are attached is a hash table that the callback reads under RCU. For a bio of
 * any other disk that is one hash and, nearly always, one empty bucket.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "hook.h"

#include <linux/ftrace.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/rculist.h>

#include "front.h"

#define HOOK_SYMBOL "submit_bio_noacct"
#define BUCKET_BITS 6 /* as many as attachments: a chain is the exception */

static struct hlist_head buckets[1 << BUCKET_BITS];
static unsigned int users;

static __always_inline struct hlist_head *bucket_of(const struct gendisk *disk)
{
	return &buckets[hash_ptr(disk, BUCKET_BITS)];
}

notrace struct attachment *hook_lookup(const struct gendisk *disk)
{
	struct attachment *a;

	hlist_for_each_entry_rcu(a, bucket_of(disk), hooked, true)
		if (a->disk == disk)
			return a;
	return NULL;
}

static void notrace hook_callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				  compat_regs_t *regs)
{
	struct bio *bio = compat_first_argument(regs);
	struct attachment *a;

	rcu_read_lock();
	a = hook_lookup(compat_bio_disk(bio));
	if (unlikely(a)) {
		if (unlikely(READ_ONCE(a->witness) == bio))
			WRITE_ONCE(a->witnessed, true);
		front_divert(a, bio);
	}
	rcu_read_unlock();
}

static struct ftrace_ops hook_ops = {
	.func = hook_callback,
	.flags = COMPAT_HOOK_FLAGS,
};

static int hook_register(void)
{
	unsigned char symbol[] = HOOK_SYMBOL;
	int r = ftrace_set_filter(&hook_ops, symbol, sizeof(symbol) - 1, 1);

	if (!r)
		r = register_ftrace_function(&hook_ops);
	if (r)
		pr_notice("cannot hook " HOOK_SYMBOL " (%d): no such symbol, or ftrace is off\n",
			  r);
	return r;
}

int hook_add(struct attachment *a)
{
	int r = users ? 0 : hook_register();

	if (r)
		return r;
	users++;
	hlist_add_head_rcu(&a->hooked, bucket_of(a->disk));
	return 0;
}

void hook_remove(struct attachment *a)
{
	hlist_del_init_rcu(&a->hooked);
	synchronize_rcu();
	if (--users == 0)
		unregister_ftrace_function(&hook_ops);
}

int hook_prove(struct attachment *a)
{
	unsigned int size = bdev_logical_block_size(a->target.bdev);
	struct page *pages = alloc_pages(GFP_KERNEL, get_order(size));
	struct bio *bio = pages ? compat_bio_alloc_read(a->target.bdev) : NULL;
	int r = -ENOMEM;

	if (!bio)
		goto free_pages;
	bio->bi_iter.bi_sector = 0;
	r = -EIO;
	if (bio_add_page(bio, pages, size, 0) != size)
		goto put_bio;
	WRITE_ONCE(a->witness, bio);
	if (submit_bio_wait(bio))
		pr_notice("%s: its first block cannot be read\n", a->disk->disk_name);
	else if (!READ_ONCE(a->witnessed))
		pr_notice("%s: its bios are not seen at " HOOK_SYMBOL "\n", a->disk->disk_name);
	else
		r = 0;
	WRITE_ONCE(a->witness, NULL);
put_bio:
	bio_put(bio);
free_pages:
	if (pages)
		__free_pages(pages, get_order(size));
	return r;
}
