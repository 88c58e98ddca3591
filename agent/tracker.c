/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker - loads, pins and reads what ebpf/track.bpf.c writes.
 *
 * Why T2 and T3 hold:
 *
 * A program reads control.era once for each range that it marks. The kernel runs programs of
 * tracepoints inside rcu_read_lock(), and up to Linux 6.18 also with preemption disabled, so all
 * that had read the old era have ended after one normal RCU grace period; Tasks-Trace RCU is for
 * sleepable programs, which these are not. tracker_open_era() stores the era and then waits for
 * such a period (grace.h). A program that starts later sees the new era, by the memory ordering
 * that a grace period guarantees.
 *
 * "If lower, store" is not atomic: a program that read the cell before another one raised it can
 * lower it again to its own, older era. Both ran at the same time then, so the lost mark was made
 * before tracker_open_era() returned. If it was a mark of completion, its data was on the medium by
 * then, and whoever reads afterwards (as T3 says) gets that data; the cell still has era B - 1,
 * which is A or later, so the granule is read. If it was a mark of submission, the mark of
 * completion is still to come: either also before the return, see above, or after it, with era B
 * and nobody left who could lower it. The latest era of a page of granules, which spares a look at them, is
 * marked in the same way right after the granule's, by a program that ends before the same grace period does,
 * so all of this holds for it too.
 *
 * What is in flight when the programs are attached: a request is seen whole at its completion. A
 * bio of a disk without requests is not, so the whole disk counts as written in the era of that
 * completion (report.stranger_era).
 *
 * Pins of a disk: eras, stamps, control, report, and one link per program. `control` is pinned last:
 * without it a directory is half-made and removed.
 */
#include "agent/tracker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/bpffs.h"
#include "agent/log.h"
#include "agent/track_identity.h"
#include "agent/tracker_state.h"
#include "ebpf/track.h"

#include "track.skel.h"

_Static_assert(ERAS_PAGE == TRACK_PAGE_ERAS, "a page of eras is an entry of the map");

DEFINE_CLEANUP(struct track, track__destroy);

static const struct {
	const char *program;
	const char *pin;
} tracker_hooks[TRACK_HOOKS] = {
	[TRACK_BIO_QUEUE] = { "bio_queue", "link-bio-queue" },
	[TRACK_RQ_ISSUE] = { "rq_issue", "link-rq-issue" },
	[TRACK_RQ_COMPLETE] = { "rq_complete", "link-rq-complete" },
	[TRACK_BIO_COMPLETE] = { "bio_complete", "link-bio-complete" },
};

static bool hook_wanted(int hook, const struct track_identity *id)
{
	return track_identity_hooks(id) & 1U << hook;
}

/* Entries of the array map that hold granules. */
static uint32_t identity_pages(const struct track_identity *id)
{
	return (uint32_t)DIV_ROUND_UP(id->size, (uint64_t)TRACK_PAGE_ERAS
							<< track_identity_granule_shift(id));
}

/* All of them: behind these, the latest era of each. */
static uint32_t identity_entries(const struct track_identity *id)
{
	return identity_pages(id) + DIV_ROUND_UP(identity_pages(id), (uint32_t)TRACK_PAGE_ERAS);
}

/*
 * ---- libbpf's words ---- libbpf has one printer per process. Ours keeps the first warning of a
 * thread's current call, which names the cause; those that follow only say that the caller failed
 * too.
 */
static _Thread_local char bpf_words[256];

static int __attribute__((format(printf, 2, 0)))
bpf_words_keep(enum libbpf_print_level level, const char *format, va_list ap)
{
	if (level != LIBBPF_WARN || bpf_words[0])
		return 0;
	vsnprintf(bpf_words, sizeof(bpf_words), format, ap);
	bpf_words[strcspn(bpf_words, "\n")] = '\0';
	return 0;
}

static void bpf_words_reset(void)
{
	libbpf_set_print(bpf_words_keep);
	bpf_words[0] = '\0';
}

static int bpf_fail(struct err *e, int code, const char *what)
{
	if (code == -EPERM && geteuid() != 0)
		return err_set(e, code, "%s: needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN", what);
	if (code != -ENOMEM && code != -EBUSY && code != -EAGAIN)
		code = -ENOTSUP;
	if (!bpf_words[0])
		return err_set_errno(e, code, "%s", what);
	return err_set(e, code, "%s: %s", what, bpf_words);
}

/* ---- pins ---- */

/* A file name in bpffs may not hold a dot; a colon it may. */
static void pin_directory(dev_t disk, char *buf, size_t size)
{
	snprintf(buf, size, "%u:%u", major(disk), minor(disk));
}

static void pin_path(dev_t disk, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%u:%u/%s", BPFFS_ROOT, major(disk), minor(disk), name);
}

static int pin_open(dev_t disk, const char *name)
{
	char path[BPFFS_PATH_MAX];

	pin_path(disk, name, path, sizeof(path));
	return bpf_obj_get(path);
}

/*
 * Map the pinned array map @name; its shape must be exactly as asked for. NULL when it cannot be
 * used.
 */
static void *pin_map(dev_t disk, const char *name, uint32_t value_size, uint32_t entries)
{
	size_t bytes = ROUND_UP((size_t)value_size * entries, 4096);
	_cleanup_close_ int fd = pin_open(disk, name);
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	void *p;

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return NULL;
	if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size != value_size ||
	    info.max_entries != entries)
		return NULL;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

int tracker_program_info(int fd, struct bpf_prog_info *ret)
{
	__u32 len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return bpf_obj_get_info_by_fd(fd, ret, &len) < 0 ? -errno : 0;
}

static int link_program(int link, uint32_t *ret_id)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &len) < 0)
		return -errno;
	*ret_id = info.prog_id;
	return 0;
}

/* A link that is pinned is attached. */
static int pin_open_hook(struct tracker *t, int hook)
{
	uint32_t id = 0;
	int r;

	t->links[hook] = pin_open(t->disk, tracker_hooks[hook].pin);
	if (t->links[hook] < 0)
		return t->links[hook];
	r = link_program(t->links[hook], &id);
	if (r < 0)
		return r;
	if (id != t->control->program_id[hook])
		return -ESTALE;
	t->programs[hook] = bpf_prog_get_fd_by_id(id);
	return t->programs[hook] < 0 ? t->programs[hook] : 0;
}

/* Take up what is pinned for the disk; any failure means that it has to be made anew. */
static int pins_open(struct tracker *t, const struct track_identity *id)
{
	int r;

	t->control = pin_map(t->disk, "control", sizeof(struct track_control), 1);
	if (!t->control || !track_identity_matches(id, t->control))
		return -ESTALE;
	t->report = pin_map(t->disk, "report", sizeof(struct track_report), 1);
	if (!t->report)
		return -ESTALE;
	t->stamps = pin_map(t->disk, "stamps", sizeof(struct track_stamp), TRACK_STAMPS);
	if (!t->stamps)
		return -ESTALE;
	t->eras = (struct eras){ .size = id->size,
				 .granule_shift = track_identity_granule_shift(id) };
	t->eras.cells =
		pin_map(t->disk, "eras", TRACK_PAGE_ERAS * sizeof(uint32_t), identity_entries(id));
	if (!t->eras.cells)
		return -ESTALE;
	t->eras.pages = t->eras.cells + (size_t)identity_pages(id) * TRACK_PAGE_ERAS;
	t->eras_bytes = (size_t)identity_entries(id) * TRACK_PAGE_ERAS * sizeof(uint32_t);
	for (int i = 0; i < TRACK_HOOKS; i++) {
		if (!hook_wanted(i, id))
			continue;
		r = pin_open_hook(t, i);
		if (r < 0)
			return r;
	}
	return 0;
}

static void pins_close(struct tracker *t)
{
	if (t->control)
		munmap(t->control, 4096);
	if (t->report)
		munmap(t->report, 4096);
	if (t->stamps)
		munmap(t->stamps, TRACK_STAMPS * sizeof(struct track_stamp));
	if (t->eras.cells)
		munmap((void *)t->eras.cells, t->eras_bytes);
	t->control = NULL;
	t->report = NULL;
	t->stamps = NULL;
	t->eras.cells = NULL;
	for (int i = 0; i < TRACK_HOOKS; i++) {
		t->links[i] = close_fd(t->links[i]);
		t->programs[i] = close_fd(t->programs[i]);
	}
}

/* ---- making a new tracker ---- */

static struct bpf_program *skel_program(struct track *skel, int hook)
{
	return bpf_object__find_program_by_name(skel->obj, tracker_hooks[hook].program);
}

static int skel_load(struct track *skel, const struct track_identity *id, struct err *e)
{
	struct track_control *c;
	int r;

	skel->rodata->disk_number = id->disk;
	skel->rodata->disk_sectors = id->size / 512;
	skel->rodata->granule_shift = track_identity_granule_shift(id) - 9;
	skel->rodata->era_pages = identity_pages(id);
	skel->rodata->bio_based = id->bio_based;
	for (int i = 0; i < TRACK_HOOKS; i++)
		bpf_program__set_autoload(skel_program(skel, i), hook_wanted(i, id));
	r = bpf_map__set_max_entries(skel->maps.eras, identity_entries(id));
	if (r == 0 && !id->bio_based)
		r = bpf_map__set_max_entries(skel->maps.inflight, 1);
	if (r < 0)
		return bpf_fail(e, r, "cannot size the map of eras");

	c = (struct track_control *)&skel->data_control->control;
	c->magic = TRACK_MAGIC;
	c->version = TRACK_VERSION;
	memcpy(c->boot_id, id->boot_id, sizeof(c->boot_id));
	if (getrandom(c->id, sizeof(c->id), 0) != sizeof(c->id))
		return err_set_errno(e, -errno, "no random numbers");
	c->disk = id->disk;
	c->granule_shift = track_identity_granule_shift(id);
	c->disk_sequence = id->sequence;
	c->size = id->size;
	c->hooks = track_identity_hooks(id);
	c->era = 1;

	r = track__load(skel);
	if (r < 0)
		return bpf_fail(e, r, "the kernel does not take the tracking programs");
	return 0;
}

/* Attach one program and pin its link; `control` learns which program it is. */
static int skel_attach(struct track *skel, dev_t disk, int hook, struct err *e)
{
	struct track_control *c = (struct track_control *)&skel->data_control->control;
	struct bpf_program *program = skel_program(skel, hook);
	char path[BPFFS_PATH_MAX];
	struct bpf_prog_info info;
	struct bpf_link *link;
	int r;

	link = bpf_program__attach(program);
	if (!link)
		return bpf_fail(e, -errno, "cannot attach to the block layer's tracepoints");
	pin_path(disk, tracker_hooks[hook].pin, path, sizeof(path));
	r = bpf_link__pin(link, path);
	if (r == 0)
		r = tracker_program_info(bpf_program__fd(program), &info);
	if (r < 0)
		r = bpf_fail(e, r, "cannot pin a tracking program");
	if (r == 0) {
		c->program_id[hook] = info.id;
		c->misses[hook] = info.recursion_misses;
	}
	bpf_link__destroy(link);
	return r;
}

static int skel_pin_map(struct bpf_map *map, dev_t disk, const char *name, struct err *e)
{
	char path[BPFFS_PATH_MAX];
	int r;

	pin_path(disk, name, path, sizeof(path));
	r = bpf_map__pin(map, path);
	if (r < 0)
		return bpf_fail(e, r, "cannot pin the map of eras");
	return 0;
}

static int pins_make(dev_t disk, const struct track_identity *id, struct err *e)
{
	_cleanup_(track__destroyp) struct track *skel = NULL;
	int r;

	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
		return err_set(e, -ENOTSUP,
			       "writes cannot be tracked: the kernel has no type information "
			       "(CONFIG_DEBUG_INFO_BTF)");
	}
	skel = track__open();
	if (!skel)
		return bpf_fail(e, -errno, "cannot open the tracking programs");
	r = skel_load(skel, id, e);
	if (r < 0)
		return r;
	for (int i = 0; i < TRACK_HOOKS; i++) {
		if (!hook_wanted(i, id))
			continue;
		r = skel_attach(skel, disk, i, e);
		if (r < 0)
			return r;
	}
	r = skel_pin_map(skel->maps.eras, disk, "eras", e);
	if (r == 0)
		r = skel_pin_map(skel->maps.stamps, disk, "stamps", e);
	if (r == 0)
		r = skel_pin_map(skel->maps.data_report, disk, "report", e);
	if (r == 0)
		r = skel_pin_map(skel->maps.data_control, disk, "control", e);
	return r;
}

/* ---- the life of a tracker ---- */

static struct tracker *tracker_new(dev_t disk)
{
	struct tracker *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->disk = disk;
	t->grace = GRACE_NONE;
	for (int i = 0; i < TRACK_HOOKS; i++)
		t->links[i] = t->programs[i] = -EBADF;
	return t;
}

static int tracker_make(struct tracker *t, int root_fd, const struct track_identity *id,
			struct err *e)
{
	char name[64];
	int r;

	pin_directory(t->disk, name, sizeof(name));
	r = bpffs_remove(root_fd, name, e);
	if (r < 0)
		return r;
	if (mkdirat(root_fd, name, 0700) < 0)
		return err_set_errno(e, -errno, "cannot make %s/%s", BPFFS_ROOT, name);
	r = pins_make(t->disk, id, e);
	if (r == 0) {
		r = pins_open(t, id);
		if (r < 0) {
			err_set_errno(e, r, "cannot open what was just pinned in %s/%s", BPFFS_ROOT,
				      name);
		}
	}
	if (r < 0)
		bpffs_remove(root_fd, name, NULL);
	return r;
}

int tracker_open(dev_t disk, struct tracker **ret, struct err *e)
{
	_cleanup_(tracker_freep) struct tracker *t = NULL;
	_cleanup_close_ int lock = -EBADF;
	struct track_identity id;
	int r;

	bpf_words_reset();
	r = track_identity_read(disk, &id, e);
	if (r < 0)
		return r;
	t = tracker_new(disk);
	if (!t)
		return err_oom(e);
	r = grace_init(&t->grace);
	if (r < 0)
		return bpf_fail(e, r, "cannot make a BPF map");
	r = bpffs_lock(&lock, e);
	if (r < 0)
		return r;
	t->resumed = pins_open(t, &id) == 0;
	if (!t->resumed) {
		pins_close(t);
		bpf_words_reset();
		r = tracker_make(t, lock, &id, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(t);
	return 0;
}

int tracker_open_sure(dev_t disk, struct tracker **ret, struct err *e)
{
	struct err why = { 0 };
	int r = tracker_open(disk, ret, e);

	if (r < 0 || !tracker_doubt(*ret, &why))
		return r;
	log_warning("%s; it is started anew", why.text);
	tracker_free(TAKE_PTR(*ret));
	r = tracker_remove(disk, e);
	return r < 0 ? r : tracker_open(disk, ret, e);
}

void tracker_free(struct tracker *t)
{
	if (!t)
		return;
	pins_close(t);
	grace_done(&t->grace);
	free(t);
}

int tracker_remove(dev_t disk, struct err *e)
{
	_cleanup_close_ int lock = -EBADF;
	char name[64];
	int r;

	if (!bpffs_mounted())
		return 0;
	r = bpffs_lock(&lock, e);
	if (r < 0)
		return r;
	pin_directory(disk, name, sizeof(name));
	return bpffs_remove(lock, name, e);
}

void tracker_prune(void)
{
	_cleanup_close_ int lock = -EBADF;
	_cleanup_dir_ DIR *root = NULL;
	const struct dirent *entry;

	/* where nothing is mounted there is nothing to end, and no reason to mount it */
	if (!bpffs_mounted() || access(BPFFS_ROOT, F_OK) < 0 || bpffs_lock(&lock, NULL) < 0)
		return;
	root = opendir(BPFFS_ROOT);
	while (root &&
	       (entry = readdir(root))) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
		char path[sizeof("/sys/dev/block/") + sizeof(entry->d_name)];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/dev/block/%s", entry->d_name);
		if (access(path, F_OK) < 0)
			bpffs_remove(lock, entry->d_name, NULL);
	}
}

/* ---- eras ---- */

uint32_t tracker_era(const struct tracker *t)
{
	return __atomic_load_n(&t->control->era, __ATOMIC_ACQUIRE);
}

int tracker_begin_era(struct tracker *t, uint32_t *ret_era, struct err *e)
{
	if (tracker_era(t) == UINT32_MAX) {
		return err_set(e, -ERANGE, "disk %u:%u has used up its eras: track it anew",
			       major(t->disk), minor(t->disk));
	}
	*ret_era = __atomic_add_fetch(&t->control->era, 1, __ATOMIC_SEQ_CST);
	return 0;
}

int tracker_settle_era(struct tracker *t, struct err *e)
{
	const int r = grace_wait(&t->grace);

	return r < 0 ? err_set_errno(e, r, "cannot wait for running BPF programs") : 0;
}

int tracker_open_era(struct tracker *t, uint32_t *ret_era, struct err *e)
{
	const int r = tracker_begin_era(t, ret_era, e);

	return r < 0 ? r : tracker_settle_era(t, e);
}

static bool tracker_all_since(const struct tracker *t, uint32_t since)
{
	return __atomic_load_n(&t->report->stranger_era, __ATOMIC_ACQUIRE) >= since;
}

int tracker_scan(const struct tracker *t, uint32_t since, struct extent_set *ret)
{
	int r;

	since = MAX(since, 1U);
	if (!tracker_all_since(t, since))
		return eras_scan(&t->eras, since, ret);
	r = extent_set_add(ret, 0, t->eras.size);
	extent_set_normalise(ret);
	return r;
}

int tracker_scan_fixed(const struct tracker *t, uint32_t since, struct extent_set *ret)
{
	since = MAX(since, 1U);
	if (!tracker_all_since(t, since))
		return eras_scan_fixed(&t->eras, since, ret);
	if (ret->count == ret->allocated)
		return -ENOBUFS;
	return tracker_scan(t, since, ret);
}

bool tracker_touched(const struct tracker *t, uint32_t since, uint64_t start, uint64_t length)
{
	since = MAX(since, 1U);
	if (length && start < t->eras.size && tracker_all_since(t, since))
		return true;
	return eras_touched(&t->eras, since, start, length);
}

unsigned int tracker_granule_shift(const struct tracker *t)
{
	return t->eras.granule_shift;
}

uint64_t tracker_size(const struct tracker *t)
{
	return t->eras.size;
}

bool tracker_resumed(const struct tracker *t)
{
	return t->resumed;
}

const uint8_t *tracker_id(const struct tracker *t)
{
	return t->control->id;
}

const uint8_t *tracker_boot_id(const struct tracker *t)
{
	return t->control->boot_id;
}
