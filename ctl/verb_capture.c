/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "ctl/client.h"
#include "ctl/render.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/newfile.h"
#include "lib/image/codec.h"

static const char capture_help[] =
	"Usage: ambroctl capture [SOURCE] -o FILE|- [OPTION]…\n"
	"Takes an image of SOURCE, which stays in use: a disk, a partition or volume, a mount point (the\n"
	"disk under it), or an image file. Without SOURCE: the disk that holds /.\n"
	"\n"
	"  -o, --output FILE        the image; it has its name only when it is complete. '-' is stdout\n"
	"      --force              replace FILE\n"
	"      --strategy NAME      auto (default), dm (logical volume), kmod (module ambro), precopy\n"
	"                           (no snapshot), offline (nothing mounted), still (mounted read-only)\n"
	"      --cow WHERE          of dm and kmod: the COW store: auto (default), file (on the source),\n"
	"                           ram, a directory, or a block device, whose content is lost\n"
	"      --cow-size SIZE      of the COW store, in bytes, or with K, M, G (default: by the disk's use)\n"
	"      --on-overflow WHAT   when that is full: fail (default), or go on as precopy\n"
	"      --level LEVEL        fast, default, max, or zstd's number -7 … 19\n"
	"      --max-freeze MS      longest time a file system may stand still (default 2000)\n"
	"      --threads N          to compress with (default: one per CPU)\n"
	"      --ignore-read-errors go on behind sectors that cannot be read; exit code 4 tells\n"
	"      --progress           with --json: progress as lines of JSON on stderr\n"
	"  -q, --quiet              no progress and no summary\n"
	"      --json               the result as one object on stdout (stderr when the image goes there)\n"
	"      --socket PATH        where the agent listens\n"
	"  -h, --help               this text\n"
	"\n"
	"Ctrl-C cancels; nothing half-done is left behind.\n"
	"Exit codes: 0 done; 1 failed; 2 wrong command line; 4 done, but some sectors could not be read;\n"
	"5 the agent cannot be reached; 6 refused (FILE exists or would lie on SOURCE; SOURCE\n"
	"is in use, or written to faster than it can be read); 7 not allowed; 130 interrupted.\n";

struct capture_args {
	const char *source; /* absolute, or "" */
	const char *output;
	const char *strategy;
	int level;
	const char *cow, *overflow;		   /* NULL: the agent's default */
	uint64_t max_freeze_ms, threads, cow_size; /* 0: the agent's defaults */
	bool ignore_read_errors, force, progress, quiet;
};

/* Where the image goes. */
struct capture_output {
	int fd;
	bool is_stdout;
	bool owned;	      /* fd is to be closed here: a FIFO and the like */
	struct newfile *file; /* behind fd, when it is a file */
};

struct capture {
	sd_bus *bus;
	sd_event *event;
	char *path; /* of the job */
	struct render_bar bar;
	bool interrupted;
	bool finished;
};

enum {
	OPTION_FORCE = VERB_OPTION_OWN,
	OPTION_STRATEGY,
	OPTION_LEVEL,
	OPTION_MAX_FREEZE,
	OPTION_THREADS,
	OPTION_IGNORE,
	OPTION_PROGRESS,
	OPTION_COW,
	OPTION_COW_SIZE,
	OPTION_OVERFLOW,
};

static void capture_output_done(struct capture_output *o)
{
	if (o->owned)
		close_fd(o->fd);
	newfile_free(o->file);
	*o = (struct capture_output){ .fd = -EBADF };
}

static void capture_done(struct capture *c)
{
	render_bar_end(&c->bar);
	/* the job, if it still runs, is cancelled by the agent when the connection goes */
	sd_bus_close_unref(c->bus);
	sd_event_unref(c->event);
	free(c->path);
}

/* ---- command line ------------------------------------------------------------------------------- */

static int capture_check_strategy(const char *name)
{
	static const char *const names[] = { "auto", "dm", "kmod", "precopy", "offline", "still" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return 0;
	}
	verb_usage("capture", "--strategy: %s is not auto, dm, kmod, precopy, offline or still",
		   name);
	return -EINVAL;
}

static int capture_set(struct capture_args *a, int option)
{
	switch (option) {
	case 'o':
		a->output = optarg;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case OPTION_FORCE:
		a->force = true;
		return 0;
	case OPTION_STRATEGY:
		a->strategy = optarg;
		return capture_check_strategy(optarg);
	case OPTION_LEVEL:
		if (codec_level_parse(optarg, &a->level) == 0)
			return 0;
		verb_usage("capture", "--level: %s is not fast, default, max or -7 … 19", optarg);
		return -EINVAL;
	case OPTION_MAX_FREEZE:
		return verb_parse_u64("capture", "--max-freeze", optarg, 10, 60000,
				      &a->max_freeze_ms);
	case OPTION_THREADS:
		return verb_parse_u64("capture", "--threads", optarg, 1, 64, &a->threads);
	case OPTION_COW:
		a->cow = optarg;
		return 0;
	case OPTION_OVERFLOW:
		a->overflow = optarg;
		if (!strcmp(optarg, "fail") || !strcmp(optarg, "precopy"))
			return 0;
		verb_usage("capture", "--on-overflow: %s is not fail or precopy", optarg);
		return -EINVAL;
	case OPTION_COW_SIZE:
		return verb_parse_size("capture", "--cow-size", optarg, 8u << 20, &a->cow_size);
	case OPTION_IGNORE:
		a->ignore_read_errors = true;
		return 0;
	default:
		a->progress = true;
		return 0;
	}
}

/* Returns an exit code, or -1 to go on. */
static int capture_parse(int argc, char **argv, struct capture_args *a)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "strategy", required_argument, NULL, OPTION_STRATEGY },
		{ "level", required_argument, NULL, OPTION_LEVEL },
		{ "max-freeze", required_argument, NULL, OPTION_MAX_FREEZE },
		{ "threads", required_argument, NULL, OPTION_THREADS },
		{ "ignore-read-errors", no_argument, NULL, OPTION_IGNORE },
		{ "cow", required_argument, NULL, OPTION_COW },
		{ "on-overflow", required_argument, NULL, OPTION_OVERFLOW },
		{ "cow-size", required_argument, NULL, OPTION_COW_SIZE },
		{ "progress", no_argument, NULL, OPTION_PROGRESS },
		VERB_OPTIONS,
	};
	int c, code;

	while ((c = verb_getopt(argc, argv, "o:q", options, capture_help, &code)) >= 0) {
		if (c == VERB_GETOPT_RETURN)
			return code;
		if (capture_set(a, c) < 0)
			return VERB_USAGE;
	}
	if (argc - optind > 1)
		return verb_usage("capture", "unexpected argument %s", argv[optind + 1]);
	if (!*a->output)
		return verb_usage("capture", "where to? give -o FILE, or -o - for stdout");
	a->source = optind < argc ? argv[optind] : "";
	if (optind < argc && !*a->source)
		return verb_usage("capture", "the source is empty");
	return -1;
}

/* The agent has a working directory of its own. A link is the agent's to follow. */
static int capture_absolute(const char *source, char **ret, struct err *e)
{
	_cleanup_free_ char *here = NULL;

	if (!*source || *source == '/') {
		*ret = strdup(source);
		return *ret ? 0 : err_oom(e);
	}
	here = getcwd(NULL, 0);
	if (!here)
		return err_set_errno(e, -errno, "working directory");
	return asprintf(ret, "%s/%s", here, source) < 0 ? err_oom(e) : 0;
}

/* ---- output ------------------------------------------------------------------------------------- */

/* What is written into as it is, without a temporary name: a FIFO, /dev/null. Returns 1 if it was one. */
static int capture_open_special(const char *path, struct capture_output *o, struct err *e)
{
	struct stat st;

	if (!strcmp(path, "-") || stat(path, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode)) {
		return err_set(e, -EEXIST,
			       "%s is a block device; an image is a file (or pipe it: -o -)", path);
	}
	if (!S_ISFIFO(st.st_mode) && !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
		return 0;
	o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (o->fd < 0)
		return err_set_errno(e, -errno, "cannot open %s", path);
	o->owned = true;
	return 1;
}

/* --force is no wish to lose the one thing that is to be kept. */
static bool capture_would_replace_source(const struct capture_args *a)
{
	struct stat source, output;

	return stat(a->source, &source) == 0 && stat(a->output, &output) == 0 &&
	       source.st_dev == output.st_dev && source.st_ino == output.st_ino;
}

static int capture_open_output(const struct capture_args *a, struct capture_output *o,
			       struct err *e)
{
	int r;

	if (!strcmp(a->output, "-")) {
		if (isatty(STDOUT_FILENO)) {
			return err_set(e, -EINVAL,
				       "stdout is a terminal; an image wants a file or a pipe");
		}
		o->fd = STDOUT_FILENO;
		o->is_stdout = true;
		return 0;
	}
	if (o->owned)
		return 0;
	if (capture_would_replace_source(a))
		return err_set(e, -EBUSY, "%s is the source itself", a->output);
	r = newfile_open(a->output, 0600, a->force, &o->file, e);
	if (r == -EEXIST && !a->force)
		return err_set(e, r, "%s exists already; --force replaces it", a->output);
	if (r < 0)
		return r;
	o->fd = o->file->fd;
	return 0;
}

/* ---- the job ------------------------------------------------------------------------------------ */

static int capture_on_progress(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	uint64_t done, total, read, written, dirty, rate, used, store;
	struct capture *c = userdata;
	char extra[RENDER_MAX + 16] = "", size[RENDER_MAX];
	const char *phase;
	int r;

	(void)error;
	/* other jobs' signals come too */
	if (!c->path || strcmp(sd_bus_message_get_path(m), c->path) != 0)
		return 0;
	r = sd_bus_message_read(m, "stttttttt", &phase, &done, &total, &read, &written, &dirty,
				&rate, &used, &store);
	if (r < 0)
		return r;
	if (dirty)
		snprintf(extra, sizeof(extra), "%s dirty", render_size(dirty, size));
	if (store) {
		snprintf(extra, sizeof(extra), "COW store %u%% full",
			 (unsigned int)(used * 100 / store));
	}
	render_bar_update(&c->bar, &(struct render_progress){ .phase = phase,
							      .done = done,
							      .total = total,
							      .rate = rate,
							      .extra = extra });
	return 0;
}

static int capture_on_finished(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct capture *c = userdata;

	(void)error;
	if (!c->path || strcmp(sd_bus_message_get_path(m), c->path) != 0)
		return 0;
	c->finished = true;
	return sd_event_exit(c->event, 0);
}

static int capture_on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct capture *c = userdata;

	(void)m, (void)error;
	return sd_event_exit(c->event, 0);
}

/* First: cancel, and wait for the agent to have done so. Second: do not wait. */
static int capture_on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct capture *c = userdata;
	int r;

	(void)s, (void)si;
	if (c->interrupted)
		return sd_event_exit(c->event, 0);
	c->interrupted = true;
	render_bar_end(&c->bar);
	r = sd_bus_call_method_async(c->bus, NULL, CLIENT_AGENT, CLIENT_AGENT_PATH, CLIENT_AGENT,
				     "Cancel", NULL, NULL, "o", c->path);
	return r < 0 ? sd_event_exit(c->event, 0) : 0;
}

static int capture_watch_signals(struct capture *c)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		r = sd_event_add_signal(c->event, NULL, signals[i], capture_on_signal, c);
		if (r < 0)
			return r;
	}
	return 0;
}

static int capture_watch(struct capture *c)
{
	int r;

	r = sd_event_new(&c->event);
	if (r < 0)
		return r;
	r = capture_watch_signals(c);
	if (r < 0)
		return r;
	/* the end of the loop is not the end of the connection: the result is asked for after it */
	r = sd_bus_set_close_on_exit(c->bus, false);
	if (r < 0)
		return r;
	r = sd_bus_match_signal(c->bus, NULL, NULL, NULL, CLIENT_JOB, "Progress",
				capture_on_progress, c);
	if (r < 0)
		return r;
	r = sd_bus_match_signal(c->bus, NULL, NULL, NULL, CLIENT_JOB, "Finished",
				capture_on_finished, c);
	if (r < 0)
		return r;
	r = sd_bus_match_signal(c->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
				"org.freedesktop.DBus.Local", "Disconnected",
				capture_on_disconnected, c);
	if (r < 0)
		return r;
	return sd_bus_attach_event(c->bus, c->event, SD_EVENT_PRIORITY_NORMAL);
}

static int capture_append_options(sd_bus_message *m, const struct capture_args *a)
{
	int r;

	r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r < 0)
		return r;
	r = sd_bus_message_append(m, "{sv}{sv}{sv}", "strategy", "s", a->strategy, "level", "i",
				  (int32_t)a->level, "ignore_read_errors", "b",
				  (int)a->ignore_read_errors);
	if (r >= 0 && a->max_freeze_ms) {
		r = sd_bus_message_append(m, "{sv}", "max_freeze_ms", "u",
					  (uint32_t)a->max_freeze_ms);
	}
	if (r >= 0 && a->cow)
		r = sd_bus_message_append(m, "{sv}", "cow", "s", a->cow);
	if (r >= 0 && a->overflow)
		r = sd_bus_message_append(m, "{sv}", "on_overflow", "s", a->overflow);
	if (r >= 0 && a->cow_size)
		r = sd_bus_message_append(m, "{sv}", "cow_size", "t", a->cow_size);
	if (r >= 0 && a->threads)
		r = sd_bus_message_append(m, "{sv}", "threads", "u", (uint32_t)a->threads);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int capture_start(struct capture *c, const struct capture_args *a, const char *source,
			 int fd, struct err *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	const char *path;
	int r;

	r = sd_bus_message_new_method_call(c->bus, &m, CLIENT_AGENT, CLIENT_AGENT_PATH,
					   CLIENT_AGENT, "Capture");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", source);
	if (r >= 0)
		r = capture_append_options(m, a);
	if (r >= 0)
		r = sd_bus_message_append(m, "h", fd);
	if (r >= 0)
		r = sd_bus_call(c->bus, m, 0, &error, &reply);
	if (r < 0)
		return client_error(r, &error, e);
	r = sd_bus_message_read(reply, "o", &path);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the agent's answer");
	c->path = strdup(path);
	return c->path ? 0 : err_oom(e);
}

/* Until the job has ended, or will never tell. */
static int capture_wait(struct capture *c, struct err *e)
{
	int r;

	r = sd_event_loop(c->event);
	if (r < 0)
		return err_set_errno(e, r, "the event loop failed");
	render_bar_end(&c->bar);
	if (c->finished)
		return 0;
	if (c->interrupted)
		return err_set(e, -ECANCELED, "interrupted");
	return err_set(e, -ENOTCONN, "the agent has gone away; there is no image");
}

/* ---- result ------------------------------------------------------------------------------------- */

static void capture_print_summary(const struct capture_args *a, const json_t *job, FILE *out)
{
	uint64_t written = client_number(job, "written"), bad = client_number(job, "bad");
	uint64_t read = client_number(job, "read"), ms = client_number(job, "duration_ms");
	uint64_t passes = client_number(job, "passes");
	const char *source = client_text(job, "source");
	char x[RENDER_MAX], y[RENDER_MAX], z[RENDER_MAX], clean[512];

	fprintf(out, "captured %s (%s) to %s\n",
		*source ? render_safe(source, clean, sizeof(clean)) : "the disk that holds /",
		render_size(client_number(job, "disk_size"), x),
		strcmp(a->output, "-") != 0 ? a->output : "stdout");
	fprintf(out, "  strategy %s, %" PRIu64 " pass%s", client_text(job, "strategy"), passes,
		passes == 1 ? "" : "es");
	if (client_number(job, "freeze_us")) {
		fprintf(out, ", file systems stood still for %.1f ms",
			(double)client_number(job, "freeze_us") / 1000);
	}
	fprintf(out, "\n  read %s, wrote %s, in %s (%s)\n", render_size(read, x),
		render_size(written, y), render_seconds((ms + 500) / 1000, z),
		render_rate(ms ? (uint64_t)((double)read * 1000 / (double)ms) : 0,
			    (char[RENDER_MAX]){ 0 }));
	if (client_number(job, "store_size")) {
		fprintf(out, "  the COW store was filled to %s of %s\n",
			render_size(client_number(job, "store_used"), x),
			render_size(client_number(job, "store_size"), y));
	}
	if (*client_text(job, "strategy_reason"))
		fprintf(out, "  %s\n",
			render_safe(client_text(job, "strategy_reason"), clean, sizeof(clean)));
	if (bad) {
		fprintf(out, "  %s could not be read; the image says where and holds zeros there\n",
			render_size(bad, x));
	}
}

/* The job's end, as an object that also says how long it took and where the image is. */
static int capture_result(struct capture *c, const struct capture_args *a, uint64_t begun_ns,
			  json_t **ret, struct err *e)
{
	json_t *job = NULL, *ms, *output;
	int r;

	r = client_job(c->bus, c->path, &job, e);
	if (r < 0)
		return r;
	ms = json_integer((json_int_t)((io_now_ns() - begun_ns) / 1000000));
	output = render_json_string(a->output);
	/* both take their value, and refuse a missing one */
	if (json_object_set_new(job, "duration_ms", ms) < 0 ||
	    json_object_set_new(job, "output", output) < 0) {
		json_decref(job);
		return err_oom(e);
	}
	*ret = job;
	return 0;
}

/* What the agent says of a job that did not end well. */
static int capture_job_error(const json_t *job, struct err *e)
{
	int code = (int)json_integer_value(json_object_get(job, "error_code"));

	if (!strcmp(client_text(job, "state"), "done"))
		return 0;
	if (!strcmp(client_text(job, "state"), "canceled"))
		return err_set(e, -ECANCELED, "interrupted; nothing was left behind");
	return err_set(e, code < 0 ? code : -EIO, "%s", client_text(job, "error"));
}

static int capture_finish(struct capture *c, const struct capture_args *a, struct capture_output *o,
			  uint64_t begun_ns, struct err *e)
{
	FILE *out = o->is_stdout ? stderr : stdout;
	json_t *job = NULL;
	uint64_t bad;
	int r;

	r = capture_result(c, a, begun_ns, &job, e);
	if (r < 0)
		return verb_fail("capture", e);
	r = capture_job_error(job, e);
	/* it may have been too late for the agent, but not for us */
	if (r == 0 && c->interrupted)
		r = err_set(e, -ECANCELED, "interrupted; nothing was left behind");
	if (r == 0 && o->file)
		r = newfile_publish(o->file, e);
	if (r < 0) {
		json_decref(job);
		return verb_fail("capture", e);
	}
	bad = client_number(job, "bad");
	if (arg_json) {
		r = render_json(job, out);
	} else {
		if (!a->quiet)
			capture_print_summary(a, job, out);
		json_decref(job);
	}
	if (r < 0)
		return VERB_FAILED;
	return bad ? VERB_BAD_SECTORS : VERB_OK;
}

/* ---- the verb ----------------------------------------------------------------------------------- */

/* From here on a signal is an event, so that whatever was begun is also taken away. */
static void capture_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int capture_run_job(struct capture *c, const struct capture_args *a,
			   struct capture_output *o, struct err *e)
{
	_cleanup_free_ char *source = NULL;
	enum render_bar_mode mode = RENDER_BAR_AUTO;
	int r;

	r = capture_absolute(a->source, &source, e);
	if (r < 0)
		return r;
	r = client_open(arg_socket, &c->bus, e);
	if (r < 0)
		return r;
	r = capture_open_output(a, o, e);
	if (r < 0)
		return r;
	r = capture_watch(c);
	if (r < 0)
		return err_set_errno(e, r, "cannot watch the agent");
	r = capture_start(c, a, source, o->fd, e);
	if (r < 0)
		return r;
	/* the agent has its own: who reads the pipe sees its end when the agent has closed it */
	if (o->owned) {
		o->fd = close_fd(o->fd);
		o->owned = false;
	}
	if (arg_json)
		mode = a->progress ? RENDER_BAR_JSON : RENDER_BAR_NONE;
	render_bar_begin(&c->bar, a->quiet ? RENDER_BAR_NONE : mode);
	return capture_wait(c, e);
}

int verb_capture(int argc, char **argv)
{
	_cleanup_(capture_output_done) struct capture_output o = { .fd = -EBADF };
	_cleanup_(capture_done) struct capture c = { 0 };
	struct capture_args a = {
		.source = "", .output = "", .strategy = "auto", .level = CODEC_LEVEL_DEFAULT
	};
	uint64_t begun_ns = io_now_ns();
	struct err e = { 0 };
	int r;

	r = capture_parse(argc, argv, &a);
	if (r >= 0)
		return r;
	/* before signals are blocked: opening a FIFO waits for a reader */
	r = capture_open_special(a.output, &o, &e);
	if (r < 0)
		return verb_fail("capture", &e);
	capture_block_signals();
	r = capture_run_job(&c, &a, &o, &e);
	if (r < 0) {
		render_bar_end(&c.bar);
		return verb_fail("capture", &e);
	}
	return capture_finish(&c, &a, &o, begun_ns, &e);
}
