#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# probe.sh CONFIG.H - ask the compiler what this kernel has. Each fragment is compiled, without making
# code, with the flags that Kbuild passes in $FLAGS; those that compile define their HAVE_. What the
# compiler said is in config.log beside CONFIG.H.

set -euo pipefail

out=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
declare -a names=()

# probe NAME INCLUDES STATEMENTS: HAVE_NAME, if a function of these statements compiles.
probe() {
	local include
	names+=("$1")
	{
		for include in linux/module.h $2; do
			printf '#include <%s>\n' "$include"
		done
		printf 'void probe(void);\nvoid probe(void)\n{\n%s\n}\n' "$3"
	} >"$dir/$1.c"
}

compile() {
	if eval "$CC $FLAGS" -Wno-error -Werror=implicit-function-declaration \
		-Werror=incompatible-pointer-types -Werror=int-conversion \
		-fsyntax-only "$dir/$1.c" >"$dir/$1.log" 2>&1; then
		: >"$dir/$1.yes"
	fi
}

probe NOTHING "linux/bio.h linux/blkdev.h linux/ftrace.h" ""

# opening
probe BDEV_FILE_OPEN_BY_DEV linux/blkdev.h \
	'struct file *f = bdev_file_open_by_dev(0, BLK_OPEN_READ, NULL, NULL); (void)file_bdev(f);'
probe BDEV_OPEN_BY_DEV linux/blkdev.h \
	'struct bdev_handle *h = bdev_open_by_dev(0, BLK_OPEN_READ, NULL, NULL); bdev_release(h);'
probe BLKDEV_PUT_HOLDER linux/blkdev.h \
	'struct block_device *b = blkdev_get_by_dev(0, BLK_OPEN_READ, NULL, NULL); blkdev_put(b, NULL);'

# block_device_operations
probe SUBMIT_BIO_VOID linux/blkdev.h \
	'void (*f)(struct bio *) = ((struct block_device_operations *)0)->submit_bio; (void)f;'
probe OPEN_BY_DISK linux/blkdev.h \
	'int (*f)(struct gendisk *, blk_mode_t) = ((struct block_device_operations *)0)->open; (void)f;'

# bios
probe BIO_BDEV linux/bio.h '(void)((struct bio *)0)->bi_bdev;'
probe BDEV_NR_SECTORS "linux/bio.h linux/blkdev.h" '(void)bdev_nr_sectors(NULL);'
probe BIO_ALLOC_CLONE linux/bio.h '(void)bio_alloc_clone(NULL, NULL, GFP_NOIO, NULL);'
probe BIO_ALLOC_BDEV linux/bio.h '(void)bio_alloc(NULL, 1, REQ_OP_READ, GFP_NOIO);'
probe BIO_CLEAR_POLLED linux/bio.h 'bio_clear_polled(NULL);'
probe BIO_PERCPU_CACHE linux/bio.h 'bio_clear_flag(NULL, BIO_PERCPU_CACHE);'
probe REQ_HIPRI linux/bio.h '(void)REQ_HIPRI;'
probe REQ_ATOMIC linux/bio.h '(void)REQ_ATOMIC;'
probe REQ_OP_WRITE_SAME linux/bio.h '(void)REQ_OP_WRITE_SAME;'
probe PLUG_NOWAIT linux/blkdev.h '((struct blk_plug *)0)->nowait = false;'

# disks
probe ALLOC_DISK_LIMITS linux/blkdev.h \
	'struct queue_limits l; (void)blk_alloc_disk(&l, 0); queue_limits_stack_bdev(&l, NULL, 0, "");'
probe BLK_ALLOC_DISK linux/blkdev.h 'struct gendisk *d = blk_alloc_disk(0); (void)d;'
probe BLK_CLEANUP_DISK linux/blkdev.h 'blk_cleanup_disk(NULL);'
probe BLK_FEAT_WRITE_CACHE linux/blkdev.h '(void)(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_NOWAIT);'
probe WZEROES_UNMAP linux/blkdev.h '((struct queue_limits *)0)->max_user_wzeroes_unmap_sectors = 0;'
probe BLK_QUEUE_WRITE_CACHE_TEST linux/blkdev.h 'bool b = blk_queue_write_cache((struct request_queue *)0); (void)b;'
probe ADD_DISK_ERROR linux/blkdev.h 'int r = add_disk(NULL); (void)r;'
probe GENHD_FL_NO_PART linux/blkdev.h '(void)GENHD_FL_NO_PART;'
probe QUEUE_FLAG_DISCARD linux/blkdev.h '(void)QUEUE_FLAG_DISCARD;'
probe QUEUE_FLAG_SECERASE linux/blkdev.h '(void)QUEUE_FLAG_SECERASE;'
probe GD_DEAD linux/blkdev.h '(void)test_bit(GD_DEAD, &((struct gendisk *)0)->state);'
probe CRYPTO_PROFILE linux/blkdev.h '(void)((struct request_queue *)0)->crypto_profile;'
probe BLK_INTEGRITY_H "linux/blkdev.h linux/blk-integrity.h" ''

# ftrace
probe FTRACE_REGS linux/ftrace.h \
	'void (*f)(unsigned long, unsigned long, struct ftrace_ops *, struct ftrace_regs *) =
	((struct ftrace_ops *)0)->func; (void)f;'
probe FTRACE_REGS_GET_ARGUMENT linux/ftrace.h '(void)ftrace_regs_get_argument((struct ftrace_regs *)0, 0);'
probe FTRACE_REGS_DI linux/ftrace.h '(void)((struct ftrace_regs *)0)->regs.di;'

for name in "${names[@]}"; do
	compile "$name" &
	while (($(jobs -rp | wc -l) >= $(nproc))); do
		wait -n
	done
done
wait
for name in "${names[@]}"; do
	printf '== %s\n' "$name"
	cat "$dir/$name.log"
done >"${out%.h}.log"
if [[ ! -e $dir/NOTHING.yes ]]; then
	echo "probe.sh: not even an empty fragment compiles: see ${out%.h}.log" >&2
	exit 1
fi
{
	printf '/* written by probe.sh */\n'
	for name in "${names[@]}"; do
		[[ ! -e $dir/$name.yes ]] || printf '#define HAVE_%s 1\n' "$name"
	done
} >"$out"
