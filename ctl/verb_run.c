/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `ambroctl run NAME`: what a timer starts. A capture by a file's settings, then the retention that it asks for, each a child
 * of its own (ctl/run_child.h); and, however that ends, the metrics file and an entry of the journal.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "ctl/capture_args.h"
#include "ctl/client.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/run_child.h"
#include "ctl/run_conf.h"
#include "ctl/run_journal.h"
#include "ctl/run_metrics.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"

static const char run_help[] =
	"Usage: ambroctl run [OPTION]… NAME\n"
	"       ambroctl run --check NAME\n"
	"       ambroctl run --list\n"
	"Do the periodic capture NAME, as " RUN_CONF_DIR
	"/NAME.conf says: capture into its repository,\n"
	"forget what its rules do not keep, and prune if it says so. A metrics file and the journal say how it went.\n"
	"The timer ambro-capture@NAME.timer does this.\n"
	"\n"
	"      --check              only look whether the file is right, and say what would be done\n"
	"      --list               the names of all captures\n"
	"      --config-dir DIR     where the files are (default: " RUN_CONF_DIR ")\n"
	"      --json               what 'ambroctl capture --json' prints\n"
	"      --socket PATH        where the agent listens\n"
	"  -h, --help               this text\n"
	"\n"
	"Exit codes: as those of 'ambroctl capture'; when that was well, of forget and prune; 2 also when\n"
	"the file is wrong.\n";

enum {
	OPTION_CHECK = VERB_OPTION_OWN,
	OPTION_LIST,
	OPTION_CONFIG_DIR,
};

struct run_args {
	const char *dir, *name;
	bool check, list;
};

struct run {
	struct run_conf conf;
	struct run_metrics metrics;
	char *metrics_path;
	json_t *job; /* what the capture printed; NULL: nothing */
	bool interrupted;
};

static void run_done(struct run *r)
{
	run_conf_done(&r->conf);
	free(r->metrics_path);
	json_decref(r->job);
}

/* ---- --list, --check ---------------------------------------------------------------------------- */

static int run_is_conf(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');
	char name[RUN_NAME_MAX + 1];

	if (!dot || strcmp(dot, ".conf") != 0 || (size_t)(dot - entry->d_name) >= sizeof(name))
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)(dot - entry->d_name), entry->d_name);
	return run_conf_name_valid(name);
}

static int run_list(const char *dir)
{
	struct dirent **entries = NULL;
	json_t *names = json_array();
	int n, code = VERB_OK;

	n = scandir(dir, &entries, run_is_conf, alphasort);
	if (n < 0 && errno != ENOENT) {
		verb_say("run", "cannot read %s: %s", dir, strerrordesc_np(errno));
		json_decref(names);
		return VERB_FAILED;
	}
	for (int i = 0; i < n; i++) {
		*strrchr(entries[i]->d_name, '.') = '\0';
		if (arg_json) {
			json_array_append_new(names, json_string(entries[i]->d_name));
		} else {
			puts(entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
	if (arg_json)
		return render_json(names, stdout) < 0 ? VERB_FAILED : code;
	json_decref(names);
	return code;
}

static void run_print_words(const struct run_words *w)
{
	printf("ambroctl");
	for (size_t i = 0; i < w->n; i++)
		printf(" %s", w->words[i]);
	putchar('\n');
}

/* The capture's own parser says whether the values are right. */
static int run_check(const struct run *r)
{
	struct capture_args args = { .strategy = "auto" };
	_cleanup_(run_words_done) struct run_words w = { 0 }, more = { 0 };
	int code;

	if (run_conf_capture(&r->conf, &w) < 0)
		return VERB_FAILED;
	if (run_conf_keeps(&r->conf) && run_conf_forget(&r->conf, "HOST", "DISK", &more) < 0)
		return VERB_FAILED;
	run_print_words(&w);
	if (more.n)
		run_print_words(&more);
	run_words_done(&more);
	if (run_conf_yes(&r->conf, RUN_PRUNE)) {
		if (run_conf_prune(&r->conf, &more) < 0)
			return VERB_FAILED;
		run_print_words(&more);
	}
	/* getopt starts again, and may put them in another order */
	optind = 0;
	code = capture_args_parse((int)w.n, w.words, &args);
	if (code < 0)
		return VERB_OK;
	verb_say("run", "%s is wrong", r->conf.path);
	return VERB_USAGE;
}

/* ---- what became of it -------------------------------------------------------------------------- */

/* HOST/DISK/TIME, in place. */
static void run_take_image(struct run_metrics *m, const char *image)
{
	const char *slash = strchr(image, '/'), *second = slash ? strchr(slash + 1, '/') : NULL;

	if (!second)
		return;
	snprintf(m->host, sizeof(m->host), "%.*s", (int)(slash - image), image);
	snprintf(m->disk, sizeof(m->disk), "%.*s", (int)(second - slash - 1), slash + 1);
}

static void run_note_success(struct run *r)
{
	struct run_metrics *m = &r->metrics;

	run_take_image(m, client_text(r->job, "image"));
	snprintf(m->increment, sizeof(m->increment), "%s", client_text(r->job, "increment"));
	m->values[RUN_METRIC_LAST_SUCCESS] = (double)time(NULL);
	m->values[RUN_METRIC_DURATION] = (double)client_number(r->job, "duration_ms") / 1000;
	m->values[RUN_METRIC_READ] = (double)client_number(r->job, "read");
	m->values[RUN_METRIC_NEW] = (double)client_number(r->job, "new_bytes");
	m->values[RUN_METRIC_FREEZE] = (double)client_number(r->job, "freeze_us") / 1000000;
}

static int run_note_end(struct run *r, int code)
{
	struct err e = { 0 };

	r->metrics.values[RUN_METRIC_LAST_RUN] = (double)time(NULL);
	r->metrics.values[RUN_METRIC_EXIT_CODE] = code;
	if (run_metrics_save(r->metrics_path, &r->metrics, &e) < 0) {
		/* without it nobody would be told of the next failure either */
		verb_say("run", "cannot write the metrics file: %s", e.text);
		return code == VERB_OK ? VERB_FAILED : code;
	}
	return code;
}

static struct run_entry run_entry_of(const struct run *r, const char *id, int priority, int code)
{
	return (struct run_entry){ .id = id,
				   .priority = priority,
				   .capture = r->conf.name,
				   .repository = r->conf.values[RUN_REPOSITORY],
				   .image = client_text(r->job, "image"),
				   .increment = client_text(r->job, "increment"),
				   .exit_code = code };
}

static int run_tell_success(const struct run *r, int code)
{
	struct run_entry entry = run_entry_of(r, RUN_JOURNAL_ID_CAPTURED,
					      code == VERB_OK ? LOG_NOTICE : LOG_WARNING, code);
	char read[RENDER_MAX], added[RENDER_MAX], took[RENDER_MAX];
	bool journal;

	entry.read = client_number(r->job, "read");
	entry.new_bytes = client_number(r->job, "new_bytes");
	render_size(entry.read, read);
	render_size(entry.new_bytes, added);
	render_seconds((client_number(r->job, "duration_ms") + 500) / 1000, took);
	journal = run_journal(&entry, "captured %s: %s (%s), %s read, %s new, in %s%s",
			      r->conf.name, entry.image, entry.increment, read, added, took,
			      code == VERB_BAD_SECTORS ? "; some sectors could not be read" : "");
	if (arg_json)
		return render_json(json_incref(r->job), stdout);
	if (!journal) {
		printf("captured %s: %s (%s), %s read, %s new, in %s\n", r->conf.name, entry.image,
		       entry.increment, read, added, took);
	}
	return 0;
}

/* What it said itself has been passed on already. */
static void run_tell_failure(const struct run *r, const char *id, const char *what, int code,
			     const char *error)
{
	struct run_entry entry = run_entry_of(r, id, LOG_ERR, code);

	entry.error = error;
	if (code == VERB_INTERRUPTED) {
		entry.priority = LOG_WARNING;
		run_journal(&entry, "%s %s was stopped", what, r->conf.name);
		return;
	}
	run_journal(&entry, "%s %s failed (exit code %d): %s", what, r->conf.name, code,
		    *error ? error : "it said nothing");
}

/* ---- doing -------------------------------------------------------------------------------------- */

/* One verb. Returns its exit code; @ret has what it said. */
static int run_verb(struct run *r, const struct run_words *w, struct run_child_end *ret)
{
	struct err e = { 0 };

	if (run_child(arg_socket, w, ret, &e) < 0) {
		verb_say("run", "%s", e.text);
		snprintf(ret->error, sizeof(ret->error), "%s", e.text);
		return VERB_FAILED;
	}
	r->interrupted |= ret->interrupted;
	/* before it could act upon it */
	if (ret->interrupted && ret->code > 128)
		ret->code = VERB_INTERRUPTED;
	if (ret->code < 128 || ret->code == VERB_INTERRUPTED)
		return ret->code;
	snprintf(ret->error, sizeof(ret->error), "ambroctl %s was killed by signal %d", w->words[0],
		 ret->code - 128);
	verb_say("run", "%s", ret->error);
	return VERB_FAILED;
}

/* In a unit all is read-only that the unit does not name, which the error of a write does not tell. */
static void run_hint(const struct run *r)
{
	const char *path = r->conf.values[RUN_REPOSITORY];
	struct statvfs st;

	if (statvfs(path, &st) < 0 || !(st.f_flag & ST_RDONLY))
		return;
	verb_say("run",
		 "note: %s is read-only here; in a unit: systemctl edit ambro-capture@%s.service, "
		 "[Service], ReadWritePaths=%s",
		 path, r->conf.name, path);
}

/*
 * Who may only add images cannot let any go, which would be found out after hours of reading. Whatever else is wrong, and a
 * passphrase that is asked for, is the verbs' own business.
 */
static int run_check_rights(const struct run *r, struct err *e)
{
	const struct repo_arg a = {
		.path = r->conf.values[RUN_REPOSITORY],
		.keys = { .key_file = r->conf.values[RUN_KEY_FILE],
			  .passphrase_file = r->conf.values[RUN_PASSPHRASE_FILE],
			  .passphrase_fd = -1 },
	};
	_cleanup_(repo_freep) struct repo *repo = NULL;

	if (!run_conf_keeps(&r->conf) && !run_conf_yes(&r->conf, RUN_PRUNE))
		return 0;
	if (!key_source_given(&a.keys) || repo_arg_open(&a, REPO_ARG_IMAGES, &repo, NULL) < 0 ||
	    !repo->crypt || crypt_rights(repo->crypt) == CRYPT_RIGHTS_FULL)
		return 0;
	return err_set(e, -EACCES,
		       "%s: the key may only add images: keep_… and prune need one with full "
		       "rights, or are done elsewhere",
		       r->conf.path);
}

static int run_capture(struct run *r)
{
	_cleanup_(run_child_end_done) struct run_child_end end = { 0 };
	_cleanup_(run_words_done) struct run_words w = { 0 };
	int code = VERB_FAILED;
	struct err e = { 0 };

	if (run_check_rights(r, &e) < 0) {
		code = verb_fail("run", &e);
		run_tell_failure(r, RUN_JOURNAL_ID_FAILED, "capture", code, e.text);
		return code;
	}
	run_hint(r);
	if (run_conf_capture(&r->conf, &w) == 0)
		code = run_verb(r, &w, &end);
	if (code == VERB_OK || code == VERB_BAD_SECTORS) {
		r->job = json_loads(end.output ? end.output : "", 0, NULL);
		if (json_is_object(r->job) && *client_text(r->job, "image")) {
			run_note_success(r);
			return run_tell_success(r, code) < 0 ? VERB_FAILED : code;
		}
		code = VERB_FAILED;
	}
	run_tell_failure(r, RUN_JOURNAL_ID_FAILED, "capture", code, end.error);
	return code;
}

/* "forget" or "prune", behind a good capture. */
static int run_tend(struct run *r, const struct run_words *w)
{
	_cleanup_(run_child_end_done) struct run_child_end end = { 0 };
	struct run_entry entry = run_entry_of(r, RUN_JOURNAL_ID_TENDED, LOG_INFO, VERB_OK);
	int code = run_verb(r, w, &end);

	if (code == VERB_OK) {
		run_journal(&entry, "%s of %s is done", w->words[0], r->conf.name);
	} else {
		run_tell_failure(r, RUN_JOURNAL_ID_UNTENDED, w->words[0], code, end.error);
	}
	return code;
}

static int run_retention(struct run *r)
{
	_cleanup_(run_words_done) struct run_words forget = { 0 }, prune = { 0 };
	int code = VERB_OK;

	if (run_conf_keeps(&r->conf)) {
		if (run_conf_forget(&r->conf, r->metrics.host, r->metrics.disk, &forget) < 0)
			return VERB_FAILED;
		code = run_tend(r, &forget);
	}
	if (code != VERB_OK || r->interrupted || !run_conf_yes(&r->conf, RUN_PRUNE))
		return code;
	return run_conf_prune(&r->conf, &prune) < 0 ? VERB_FAILED : run_tend(r, &prune);
}

static int run_begin(struct run *r)
{
	struct run_metrics *m = &r->metrics;
	const char *path = r->conf.values[RUN_METRICS_FILE];
	char host[256] = "";
	sigset_t set;

	if ((path ? asprintf(&r->metrics_path, "%s", path)
		  : asprintf(&r->metrics_path, "%s/%s.prom", RUN_CONF_METRICS, r->conf.name)) < 0) {
		r->metrics_path = NULL;
		return VERB_FAILED;
	}
	snprintf(m->name, sizeof(m->name), "%s", r->conf.name);
	if (r->conf.values[RUN_HOST])
		snprintf(m->host, sizeof(m->host), "%s", r->conf.values[RUN_HOST]);
	if (r->conf.values[RUN_DISK])
		snprintf(m->disk, sizeof(m->disk), "%s", r->conf.values[RUN_DISK]);
	run_metrics_load(r->metrics_path, m);
	if (!*m->host && gethostname(host, sizeof(host) - 1) == 0)
		snprintf(m->host, sizeof(m->host), "%s", host);
	/* the children's to act upon (ctl/run_child.h) */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return VERB_OK;
}

static int run_all(struct run *r)
{
	int code = run_begin(r), more;

	if (code != VERB_OK)
		return code;
	code = run_capture(r);
	if ((code == VERB_OK || code == VERB_BAD_SECTORS) && !r->interrupted) {
		more = run_retention(r);
		code = code == VERB_OK ? more : code;
	}
	return run_note_end(r, code);
}

/* ---- the verb ----------------------------------------------------------------------------------- */

static int run_options(int argc, char **argv, struct run_args *a)
{
	static const struct option options[] = {
		{ "check", no_argument, NULL, OPTION_CHECK },
		{ "list", no_argument, NULL, OPTION_LIST },
		{ "config-dir", required_argument, NULL, OPTION_CONFIG_DIR },
		VERB_OPTIONS,
	};
	int c, code;

	while ((c = verb_getopt(argc, argv, "", options, run_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (c == OPTION_CHECK) {
			a->check = true;
		} else if (c == OPTION_LIST) {
			a->list = true;
		} else {
			a->dir = optarg;
		}
	}
	if (argc - optind != (a->list ? 0 : 1))
		return verb_usage("run", a->list ? "--list takes no name" : "which capture?");
	a->name = argv[optind];
	return -1;
}

int verb_run(int argc, char **argv)
{
	_cleanup_(run_done) struct run r = { .job = NULL };
	struct run_args a = { .dir = RUN_CONF_DIR };
	struct err e = { 0 };
	int code = run_options(argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.list)
		return run_list(a.dir);
	code = run_conf_load(a.dir, a.name, &r.conf, &e);
	if (code == -EINVAL) {
		verb_say("run", "%s", e.text);
		return VERB_USAGE;
	}
	if (code < 0)
		return verb_fail("run", &e);
	return a.check ? run_check(&r) : run_all(&r);
}
