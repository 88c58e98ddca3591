/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which areas are looked at, in which order, and what is answered of each (ctl/hurt_files); how it is said (ctl/hurt_report). */
#include <errno.h>
#include <unistd.h>

#include "ctl/hurt_files.h"
#include "ctl/hurt_report.h"
#include "ctl/verb.h"
#include "tests/unit/repo-check-fixture.h"

/* of ctl/main.c, which a test has not */
bool arg_json;
const char *arg_socket;

#define IMAGES 4
/* The fourth chunk is another one's in the second image; the third image is as the first. */
static const unsigned int seeds[IMAGES][4] = {
	{ 1, 2, 3, 4 }, { 1, 2, 3, 14 }, { 1, 2, 3, 4 }, { 21, 22, 23, 24 }
};

struct answers {
	struct {
		char image[64];
		char same[64]; /* "" */
		char why[ERR_TEXT_MAX];
		uint64_t lost;
		bool told, incomplete, log;
	} items[16];
	size_t n;
	struct cancel *raise; /* after the first answer */
	uint64_t progress;
};

static void on_answer(void *ctx, const struct hurt_answer *a)
{
	struct answers *l = ctx;

	assert_true(l->n < ARRAY_SIZE(l->items));
	assert_true(!a->same + !a->owners + !a->why == 2);
	snprintf(l->items[l->n].image, 64, "%s", a->area->image);
	snprintf(l->items[l->n].same, 64, "%s", a->same ? a->same->image : "");
	snprintf(l->items[l->n].why, ERR_TEXT_MAX, "%s", a->why ? a->why : "");
	l->items[l->n].lost = extent_set_total(&a->area->lost);
	l->items[l->n].told = a->area->told;
	l->items[l->n].incomplete = a->area->incomplete;
	l->items[l->n].log = a->area->log;
	l->n++;
	if (l->raise)
		cancel_raise(l->raise);
}

static void on_progress(void *ctx, const struct hurt_area *a, uint64_t read)
{
	struct answers *l = ctx;

	assert_non_null(a->image);
	assert_true(read >= l->progress);
	l->progress = read;
}

/* Note that chunk @chunk of image @i of @l, as one of an @fs_type, is lost. */
static void note_lost(struct hurt_files *h, const struct repo_images *l, size_t i, uint64_t chunk,
		      const char *fs_type)
{
	struct repo_image *image = l->items[i];
	char name[REPO_IMAGE_NAME_MAX];
	const struct repo_damage d = {
		.what = "a chunk is damaged or missing",
		.image = repo_image_name(image, name),
		.of = image,
		.offset = chunk * SCENE_CHUNK,
		.length = SCENE_CHUNK,
	};

	free(image->manifest->regions[0].fs_type);
	image->manifest->regions[0].fs_type = fs_type ? strdup(fs_type) : NULL;
	hurt_files_note(h, &d);
}

struct stage {
	struct scene scene;
	struct repo *repo;
	struct repo_images images; /* oldest first */
	struct hurt_files *files;
	struct answers answers;
	struct cancel cancel;
};

static void stage_init(struct stage *s, bool encrypted)
{
	struct err e = { 0 };

	*s = (struct stage){ .scene = scene_new(encrypted) };
	for (size_t i = 0; i < IMAGES; i++)
		capture(&s->scene, seeds[i], 4, SCENE_T0 + i * SCENE_HOUR);
	s->repo = scene_open(&s->scene);
	assert_int_equal(repo_load_whole_index(s->repo, &e), 0);
	assert_int_equal(repo_images_load(s->repo, true, &s->images, &e), 0);
	assert_int_equal(s->images.count, IMAGES);
	assert_int_equal(hurt_files_new(&s->files), 0);
	assert_int_equal(cancel_init(&s->cancel), 0);
}

static void stage_done(struct stage *s)
{
	hurt_files_free(s->files);
	cancel_done(&s->cancel);
	repo_images_done(&s->images);
	repo_free(s->repo);
	scene_done(&s->scene);
}

static int stage_find(struct stage *s, struct err *e)
{
	const struct hurt_files_settings settings = {
		.repo = s->repo,
		.cancel = &s->cancel,
		.answer = on_answer,
		.progress = on_progress,
		.ctx = &s->answers,
	};

	return hurt_files_find(s->files, &settings, e);
}

static void the_newest_is_first_and_the_same_is_answered_once(void **state)
{
	_cleanup_(stage_done) struct stage s;
	struct answers *a = &s.answers;
	struct err e = { 0 };

	stage_init(&s, false);
	for (size_t i = 0; i < IMAGES; i++) {
		note_lost(s.files, &s.images, i, 0, "LVM2_member");
		note_lost(s.files, &s.images, i, 1, "LVM2_member");
	}
	assert_int_equal(stage_find(&s, &e), 0);
	assert_int_equal(a->n, IMAGES);
	for (size_t i = 0; i < IMAGES; i++) {
		char name[REPO_IMAGE_NAME_MAX];

		repo_image_name(s.images.items[IMAGES - 1 - i], name);
		assert_string_equal(a->items[i].image, name);
		assert_int_equal(a->items[i].lost, 2 * SCENE_CHUNK);
		assert_false(a->items[i].told);
		if (i < IMAGES - 1) {
			assert_string_equal(a->items[i].why,
					    "it holds LVM2_member, a physical volume of LVM");
		}
	}
	/* the first image has the same root as the third */
	assert_string_equal(a->items[3].same, a->items[1].image);
	assert_string_equal(a->items[1].same, "");
	assert_string_equal(a->items[2].same, "");
}

static void the_same_image_with_another_loss_is_another(void **state)
{
	_cleanup_(stage_done) struct stage s;
	struct err e = { 0 };

	stage_init(&s, false);
	note_lost(s.files, &s.images, 0, 0, "swap");
	note_lost(s.files, &s.images, 2, 1, "swap");
	assert_int_equal(stage_find(&s, &e), 0);
	assert_int_equal(s.answers.n, 2);
	assert_string_equal(s.answers.items[0].same, "");
	assert_string_equal(s.answers.items[1].same, "");
	assert_string_equal(s.answers.items[1].why, "it holds swap, which has no files");
}

/* Chunks of a few numbers are no ext4: that is an answer, and no failure. */
static void a_file_system_that_is_none_is_an_answer(void **state)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		_cleanup_(stage_done) struct stage s;
		struct err e = { 0 };

		stage_init(&s, encrypted);
		note_lost(s.files, &s.images, 1, 3, "ext4");
		note_lost(s.files, &s.images, 3, 3, "xfs");
		note_lost(s.files, &s.images, 2, 3, NULL);
		note_lost(s.files, &s.images, 0, 3, "ntfs");
		assert_int_equal(stage_find(&s, &e), 0);
		assert_int_equal(s.answers.n, 4);
		for (size_t i = 0; i < 4; i++) {
			assert_true(s.answers.items[i].why[0]);
			assert_false(s.answers.items[i].told);
		}
		assert_string_equal(s.answers.items[1].why, "what it holds is not known");
		assert_non_null(strstr(s.answers.items[3].why, "ntfs"));
		assert_true(s.answers.progress > 0);
	}
}

/* The image is gone since (forgotten and pruned, say). */
static void an_image_that_is_gone_is_an_answer(void **state)
{
	_cleanup_(stage_done) struct stage s;
	struct objects l;
	struct err e = { 0 };

	stage_init(&s, false);
	note_lost(s.files, &s.images, 1, 3, "ext4");
	note_lost(s.files, &s.images, 3, 3, "LVM2_member");
	l = objects_of(&s.scene, "images/");
	for (size_t i = 0; i < l.n; i++)
		assert_int_equal(store_del(s.scene.memory, l.items[i].name, &e), 0);
	assert_int_equal(stage_find(&s, &e), 0);
	assert_int_equal(s.answers.n, 2);
	assert_true(s.answers.items[1].why[0]);
}

static void what_was_not_looked_at_is_answered_too(void **state)
{
	_cleanup_(stage_done) struct stage s;
	struct err e = { 0 };

	stage_init(&s, false);
	for (size_t i = 0; i < IMAGES; i++)
		note_lost(s.files, &s.images, i, 3, i == 3 ? "LVM2_member" : "ext4");
	s.answers.raise = &s.cancel;
	assert_int_equal(stage_find(&s, &e), -ECANCELED);
	assert_string_equal(e.text, "interrupted");
	assert_int_equal(s.answers.n, IMAGES);
	assert_non_null(strstr(s.answers.items[0].why, "LVM2_member"));
	for (size_t i = 1; i < IMAGES; i++)
		assert_string_equal(s.answers.items[i].why, "interrupted");
}

/* Of what was not written back when an image was made its tables do not know. */
static void a_log_that_may_be_needed_is_known(void **state)
{
	static const struct {
		const char *guarantee, *map;
		bool log;
	} cases[IMAGES] = {
		{ "filesystem-consistent", NULL, false },
		{ "crash-consistent", "a", true },
		{ "offline", NULL, true },
		{ "offline", "a", false },
	};
	_cleanup_(stage_done) struct stage s;
	struct err e = { 0 };

	stage_init(&s, false);
	for (size_t i = 0; i < IMAGES; i++) {
		struct manifest *m = s.images.items[i]->manifest;

		free(m->guarantee);
		m->guarantee = strdup(cases[i].guarantee);
		free(m->regions[0].map);
		m->regions[0].map = cases[i].map ? strdup(cases[i].map) : NULL;
		note_lost(s.files, &s.images, i, 3, "xfs");
	}
	assert_int_equal(stage_find(&s, &e), 0);
	assert_int_equal(s.answers.n, IMAGES);
	for (size_t i = 0; i < IMAGES; i++)
		assert_int_equal(s.answers.items[IMAGES - 1 - i].log, cases[i].log);
}

static void damage_of_no_image_is_left_alone(void **state)
{
	_cleanup_(stage_done) struct stage s;
	const struct repo_damage d = { .object = "packs/4f", .what = "is missing" };
	struct err e = { 0 };

	stage_init(&s, false);
	hurt_files_note(s.files, &d);
	assert_int_equal(stage_find(&s, &e), 0);
	assert_int_equal(s.answers.n, 0);
}

/* ---- words --------------------------------------------------------------------------------------- */

/* Where nothing is compressed. */
static void owners_hold_all(struct owners *o)
{
	for (size_t i = 0; i < o->count; i++)
		o->items[i].held = o->items[i].held ? o->items[i].held : o->items[i].length;
}

/* What the report says of @o, and of it again as if of an older image. */
static void words_of(struct owners *o, char *buf, size_t size)
{
	struct hurt_area area = { .image = (char *)"h/d/2026-11-22T03:00:00Z",
				  .kind = REGION_PARTITION,
				  .partition = 1,
				  .fs_type = (char *)"ext4" };
	struct hurt_area older = area;
	struct hurt_answer a = { .area = &area, .owners = o };
	struct hurt_report r;
	FILE *out = tmpfile();
	int saved = dup(STDERR_FILENO);
	size_t n;

	assert_non_null(out);
	owners_hold_all(o);
	older.image = (char *)"h/d/2026-11-21T03:00:00Z";
	fflush(stderr);
	assert_true(dup2(fileno(out), STDERR_FILENO) >= 0);
	hurt_report_begin(&r, "v", false);
	hurt_report_answer(&r, &a);
	a.area = &older;
	hurt_report_answer(&r, &a);
	hurt_report_end(&r);
	hurt_report_done(&r);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(out);
	n = fread(buf, 1, size - 1, out);
	buf[n] = '\0';
	fclose(out);
}

#define NEW "ambroctl: v: h/d/2026-11-22T03:00:00Z: partition 1 (ext4): "
#define OLD "ambroctl: v: h/d/2026-11-21T03:00:00Z: partition 1 (ext4): "

static void a_file_is_one_line(void **state)
{
	struct extent free_bytes = { 0, 4096 };
	struct owner items[] = {
		{ .inode = 9,
		  .kind = OWNER_DATA,
		  .length = 10,
		  .offset = 90,
		  .path = (char *)"/b\n\033" },
		{ .inode = 7,
		  .kind = OWNER_DATA,
		  .length = 100,
		  .offset = 4096,
		  .path = (char *)"/a" },
		{ .inode = 7, .kind = OWNER_DATA, .length = 100, .offset = 0, .path = (char *)"/a" },
		/* lost twice, of which one is not read: not counted twice */
		{ .inode = 7, .kind = OWNER_DATA, .length = 60, .offset = 50, .path = (char *)"/a" },
		{ .inode = 7, .kind = OWNER_MAP, .length = 60, .path = (char *)"/a" },
		{ .inode = 8,
		  .kind = OWNER_DATA,
		  .length = 40,
		  .held = 131072,
		  .path = (char *)"/compressed" },
		{ .inode = 5, .tree = 257, .kind = OWNER_DATA, .length = 1 },
		{ .inode = 6, .kind = OWNER_DIRECTORY, .length = 1, .path = (char *)"/" },
	};
	struct owners o = { .items = items,
			    .count = ARRAY_SIZE(items),
			    .others = { &free_bytes, 1, 1 },
			    .incomplete = true };
	char buf[4096];

	err_set(&o.lost, -EBADMSG, "the inodes of group 7");
	words_of(&o, buf, sizeof(buf));
	assert_string_equal(
		buf, NEW "/: names in the directory\n" NEW
			 "/a lacks 210 bytes in 2 stretches, the first at byte 0\n" NEW
			 "/a: where it lies on the disk, so the rest of it may be lost, too\n" NEW
			 "/b?? lacks 10 bytes at byte 90\n" NEW
			 "/compressed lacks 131072 bytes at byte 0\n" NEW
			 "inode 5 of subvolume 257 (no name was found) lacks 1 byte at byte 0\n" NEW
			 "4096 bytes are free or the file system's own tables\n" NEW
			 "not all could be found out: the inodes of group 7\n" OLD
			 "the same as in h/d/2026-11-22T03:00:00Z\n" OLD
			 "4096 bytes are free or the file system's own tables\n" OLD
			 "not all could be found out: the inodes of group 7\n");
}

static void a_long_list_is_cut(void **state)
{
	struct owners o = { .count = HURT_REPORT_SHOWN + 7 };
	_cleanup_free_ char *buf = malloc(1 << 20), *path = malloc(5000);
	size_t lines = 0;

	assert_non_null(buf);
	assert_non_null(path);
	memset(path, 'x', 4999);
	path[0] = '/';
	path[4999] = '\0';
	o.items = calloc(o.count, sizeof(*o.items));
	assert_non_null(o.items);
	for (size_t i = 0; i < o.count; i++)
		o.items[i] = (struct owner){ .inode = i, .length = 5, .path = path };
	words_of(&o, buf, 1 << 20);
	free(o.items);
	for (char *at = buf; (at = strchr(at, '\n')); at++)
		lines++;
	/* and the older one's, which is the same */
	assert_int_equal(lines, HURT_REPORT_SHOWN + 1 + 1);
	assert_non_null(strstr(buf, "… and 7 more about files; --json lists all\n"));
	assert_non_null(strstr(buf, "xxx… lacks 5 bytes at byte 0\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_is_first_and_the_same_is_answered_once),
		cmocka_unit_test(the_same_image_with_another_loss_is_another),
		cmocka_unit_test(a_file_system_that_is_none_is_an_answer),
		cmocka_unit_test(an_image_that_is_gone_is_an_answer),
		cmocka_unit_test(what_was_not_looked_at_is_answered_too),
		cmocka_unit_test(a_log_that_may_be_needed_is_known),
		cmocka_unit_test(damage_of_no_image_is_left_alone),
		cmocka_unit_test(a_file_is_one_line),
		cmocka_unit_test(a_long_list_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
