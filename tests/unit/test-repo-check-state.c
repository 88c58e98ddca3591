// SPDX-License-Identifier: GPL-2.0-or-later
/* What a check of a repository notes of itself (lib/repo/repo_check_state). */
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/unit/repo-check-fixture.h"

struct state_test {
	struct scene scene;
	struct repo *repo;
	struct repo_check_settings settings;
	struct reports reports;
	struct repo_check_result result;
	char path[64], head[128], packs[5][2 * REPO_NAME_HASH + 1];
};

static void state_test_done(struct state_test *t)
{
	unlink(t->path);
	repo_free(t->repo);
	scene_done(&t->scene);
}

static int text_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Five packs; a state of a check of all, or of one of @parts, that is not there yet. */
static void state_test_new(struct state_test *t, bool encrypted, unsigned int parts)
{
	struct objects packs;
	char id[2 * REPO_ID_SIZE + 1];
	int fd;

	memset(t, 0, sizeof(*t));
	t->scene = scene_new(encrypted);
	for (unsigned int i = 0; i < ARRAY_SIZE(t->packs); i++)
		capture(&t->scene, (unsigned int[]){ 100 + i }, 1, SCENE_T0 + i);
	packs = objects_of(&t->scene, "packs/");
	for (unsigned int i = 0; i < ARRAY_SIZE(t->packs); i++) {
		snprintf(t->packs[i], sizeof(t->packs[i]), "%s",
			 strrchr(packs.items[i].name, '/') + 1);
	}
	/* they are read in this order */
	qsort(t->packs, ARRAY_SIZE(t->packs), sizeof(t->packs[0]), text_compare);
	t->repo = scene_open(&t->scene);
	hex_encode(t->repo->format.id, REPO_ID_SIZE, id);
	snprintf(t->head, sizeof(t->head), "ambrotype check 1 %s 0000/%04u data\n", id, parts);
	snprintf(t->path, sizeof(t->path), "/tmp/check-state-XXXXXX");
	fd = mkstemp(t->path);
	assert_true(fd >= 0);
	close_fd(fd);
	unlink(t->path);
	t->settings = settings_full(&t->reports);
	t->settings.parts = parts;
	t->settings.state = t->path;
}

static void state_write(const struct state_test *t, const char *text)
{
	FILE *f = fopen(t->path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void state_is(const struct state_test *t, const char *text)
{
	char found[1024] = "";
	FILE *f = fopen(t->path, "re");

	assert_non_null(f);
	found[fread(found, 1, sizeof(found) - 1, f)] = '\0';
	fclose(f);
	assert_string_equal(found, text);
}

static int state_check(struct state_test *t)
{
	struct err e = { 0 };

	return repo_check(t->repo, &t->settings, &t->result, &e);
}

/* Interrupted before it read anything; between packs; in the middle of a line. */
static void test_state(void **state)
{
	struct state_test t;
	struct cancel c;
	char text[512];

	state_test_new(&t, false, 1);
	assert_int_equal(cancel_init(&c), 0);
	cancel_raise(&c);
	t.settings.cancel = &c;
	assert_int_equal(state_check(&t), -ECANCELED);
	t.settings.cancel = NULL;
	for (unsigned int half = 0; half < 2; half++) {
		snprintf(text, sizeof(text), "%s%s\n%.*s", t.head, t.packs[0], half ? 20 : 0,
			 t.packs[1]);
		state_write(&t, text);
		assert_int_equal(state_check(&t), 0);
		assert_int_equal(t.result.packs_skipped, 1);
		assert_int_equal(t.result.packs_read, 4);
		assert_int_equal(access(t.path, F_OK), -1);
	}
	assert_int_equal(state_check(&t), 0);
	assert_int_equal(t.result.packs_read, 5);
	cancel_done(&c);
	state_test_done(&t);
}

struct interruption {
	struct reports reports;
	struct cancel cancel;
};

static void on_damage_cancel(void *ctx, const struct repo_damage *d)
{
	struct interruption *i = ctx;

	on_damage(&i->reports, d);
	cancel_raise(&i->cancel);
}

/* What is noted behind half a line is found by the check after. A pack that is damaged is read again, too. */
static void test_state_twice_interrupted(void **state)
{
	struct interruption i = { 0 };
	struct state_test t;
	char name[PACK_NAME_SIZE + 8], text[512];

	state_test_new(&t, false, 1);
	snprintf(text, sizeof(text), "%s%s\n%.20s", t.head, t.packs[0], t.packs[1]);
	state_write(&t, text);
	snprintf(name, sizeof(name), "packs/%.2s/%s", t.packs[3], t.packs[3]);
	assert_int_equal(cancel_init(&i.cancel), 0);
	t.settings.cancel = &i.cancel;
	t.settings.report = on_damage_cancel;
	t.settings.ctx = &i;
	assert_int_equal(store_memory_flip(t.scene.memory, name, 200, 1), 0);
	assert_int_equal(state_check(&t), -ECANCELED);
	assert_int_equal(i.reports.n, 1);
	snprintf(text, sizeof(text), "%s%s\n%s\n%s\n", t.head, t.packs[0], t.packs[1], t.packs[2]);
	state_is(&t, text);

	assert_int_equal(store_memory_flip(t.scene.memory, name, 200, 1), 0);
	t.settings.cancel = NULL;
	assert_int_equal(state_check(&t), 0);
	assert_int_equal(t.result.packs_skipped, 3);
	assert_int_equal(t.result.packs_read, 2);
	assert_int_equal(access(t.path, F_OK), -1);
	cancel_done(&i.cancel);
	state_test_done(&t);
}

/* What is no state stays what it is; what a killed check left is taken. */
static void test_state_of_others(void **state)
{
	static const char *const foreign[] = { "important\n", "ambrotype check 2 x", "\n",
					       "ambrotype chess 1 " };
	static const char *const ours[] = {
		"", "ambro", "ambrotype check 1 ",
		"ambrotype check 1 00112233445566778899aabbccddeeff 0000/0001 data\n"
	};
	struct state_test t;

	state_test_new(&t, false, 1);
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		state_write(&t, foreign[i]);
		assert_int_equal(state_check(&t), -EEXIST);
		state_is(&t, foreign[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		char text[512];

		/* packs that another one read are not read */
		snprintf(text, sizeof(text), "%s%s%s", ours[i], i == 3 ? t.packs[0] : "",
			 i == 3 ? "\n" : "");
		state_write(&t, text);
		assert_int_equal(state_check(&t), 0);
		assert_int_equal(t.result.packs_skipped, 0);
		assert_int_equal(t.result.packs_read, 5);
		assert_int_equal(access(t.path, F_OK), -1);
	}
	t.settings.state = "/dev/null";
	assert_int_equal(state_check(&t), -EEXIST);
	t.settings.state = "/nonexistent/state";
	assert_int_equal(state_check(&t), -ENOENT);
	state_test_done(&t);
}

/* A check that only compared names has not decoded anything. */
static void test_state_by_names(void **state)
{
	_cleanup_(repo_freep) struct repo *locked = NULL;
	struct repo *full;
	struct state_test t;
	char text[512], *word;
	struct err e = { 0 };

	state_test_new(&t, true, 1);
	full = t.repo;
	assert_int_equal(repo_open(&scene_store_new(t.scene.memory)->store, &locked, &e), 0);
	snprintf(text, sizeof(text), "%s%s\n", t.head, t.packs[0]);
	word = strstr(text, "data\n");
	assert_non_null(word);
	memmove(word + 5, word + 4, strlen(word + 4) + 1);
	memcpy(word, "names", 5);

	state_write(&t, text);
	assert_int_equal(state_check(&t), 0);
	assert_int_equal(t.result.packs_skipped, 0);
	assert_true(t.result.decoded);
	state_write(&t, text);
	t.repo = locked;
	assert_int_equal(state_check(&t), 0);
	assert_int_equal(t.result.packs_skipped, 1);
	assert_false(t.result.decoded);
	t.repo = full;
	state_test_done(&t);
}

/* Two at once: the second one is refused, and the first one's notes stay. */
static void test_state_in_use(void **state)
{
	struct state_test t;
	int fd;

	state_test_new(&t, false, 1);
	state_write(&t, t.head);
	fd = open(t.path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(state_check(&t), -EBUSY);
	state_is(&t, t.head);
	close_fd(fd);
	assert_int_equal(state_check(&t), 0);
	state_test_done(&t);
}

/* From part to part, in any rhythm: as many checks as there are parts read all, and one that was interrupted is done again. */
static void test_state_rotates(void **state)
{
	struct state_test t;
	struct cancel c;
	uint64_t read = 0;
	char *part;

	state_test_new(&t, false, 3);
	t.settings.rotate = true;
	t.settings.part = 2;
	assert_int_equal(cancel_init(&c), 0);
	part = strstr(t.head, "/0003") - 1;
	for (unsigned int i = 0; i < 6; i++) {
		cancel_raise(&c);
		t.settings.cancel = &c;
		assert_int_equal(state_check(&t), -ECANCELED);
		t.settings.cancel = NULL;
		*part = (char)('0' + (2 + i) % 3);
		/* before the first one came to reading, nothing is to be noted */
		state_is(&t, i ? t.head : "");
		assert_int_equal(state_check(&t), 0);
		assert_int_equal(t.result.part, (2 + i) % 3);
		read += t.result.packs_read;
		*part = (char)('0' + (3 + i) % 3);
		state_is(&t, t.head);
		/* it says for itself which is next */
		t.settings.part = 0;
	}
	assert_int_equal(read, 2 * 5);
	/* of another number of parts: anew */
	t.settings.parts = 2;
	t.settings.part = 1;
	assert_int_equal(state_check(&t), 0);
	assert_int_equal(t.result.part, 1);
	cancel_done(&c);
	state_test_done(&t);
}

/* Without a state: each day of a turn another part; and no rhythm is in step with it. */
static void test_part_of_day(void **state)
{
	for (unsigned int parts = 1; parts <= REPO_CHECK_PARTS_OF_DAYS_MAX; parts++) {
		for (unsigned int turn = 0; turn < 5; turn++) {
			bool met[REPO_CHECK_PARTS_OF_DAYS_MAX] = { 0 };

			for (unsigned int i = 0; i < parts; i++) {
				const unsigned int part =
					repo_check_part_of_day((uint64_t)turn * parts + i, parts);

				assert_true(part < parts);
				assert_false(met[part]);
				met[part] = true;
			}
		}
	}
	for (unsigned int parts = 2; parts <= 20; parts++) {
		for (unsigned int every = 1; every <= 31; every++) {
			bool met[20] = { 0 };
			unsigned int n = 0;

			/* by chance: (1 - 1/20)^400 is 1e-9 */
			for (unsigned int run = 0; run < 20 * parts; run++) {
				met[repo_check_part_of_day(20000 + (uint64_t)run * every, parts)] =
					true;
			}
			for (unsigned int i = 0; i < parts; i++)
				n += met[i];
			assert_int_equal(n, parts);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_state_twice_interrupted),
		cmocka_unit_test(test_state_of_others),
		cmocka_unit_test(test_state_by_names),
		cmocka_unit_test(test_state_in_use),
		cmocka_unit_test(test_state_rotates),
		cmocka_unit_test(test_part_of_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
