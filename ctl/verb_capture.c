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

#include "ctl/capture_args.h"
#include "ctl/capture_output.h"
#include "ctl/capture_repo.h"
#include "ctl/capture_report.h"
#include "ctl/client.h"
#include "ctl/file_sealer.h"
#include "ctl/render.h"
#include "ctl/repo_arg.h"
#include "ctl/verb.h"
#include "lib/base/cleanup.h"
#include "lib/base/hex.h"
#include "lib/base/io.h"
#include "lib/base/newfile.h"
#include "lib/image/codec.h"

/* One disk, and the job that captures it. */
struct capture_part {
	const char *source, *name; /* name: the output's, as given */
	struct capture_output output;
	struct sealed_head *head;  /* of an encrypted output, until its sealer has it */
	struct file_sealer sealer; /* between the agent and an encrypted output */
	struct capture_feed feed;  /* into a repository, instead of the output */
	char *path;		   /* of the job */
	bool finished;
	uint64_t done, total; /* bytes, as last heard */
};

struct capture {
	sd_bus *bus;
	sd_event *event;
	struct capture_repo repo;
	struct capture_part parts[CAPTURE_PARTS_MAX];
	unsigned int n_parts;
	struct render_bar bar;
	bool interrupted;
};

static void capture_done(struct capture *c)
{
	render_bar_end(&c->bar);
	/* the job, if it still runs, is cancelled by the agent when the connection goes */
	sd_bus_close_unref(c->bus);
	sd_event_unref(c->event);
	for (unsigned int i = 0; i < c->n_parts; i++) {
		capture_feed_done(&c->parts[i].feed);
		file_sealer_done(&c->parts[i].sealer);
		sealed_head_free(c->parts[i].head);
		capture_output_done(&c->parts[i].output);
		free(c->parts[i].path);
	}
	capture_repo_done(&c->repo);
}

/* Which job does @m come from? NULL: another's; other jobs' signals come too. */
static struct capture_part *capture_part_of(struct capture *c, sd_bus_message *m)
{
	const char *path = sd_bus_message_get_path(m);

	for (unsigned int i = 0; i < c->n_parts; i++) {
		if (c->parts[i].path && !strcmp(c->parts[i].path, path))
			return &c->parts[i];
	}
	return NULL;
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

/* ---- the job ------------------------------------------------------------------------------------ */

static int capture_on_progress(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	uint64_t done, total, read, written, dirty, rate, used, store;
	struct capture *c = userdata;
	struct capture_part *p = capture_part_of(c, m);
	char extra[RENDER_MAX + 16] = "", size[RENDER_MAX];
	const char *phase;
	int r;

	(void)error;
	if (!p)
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
	p->done = done;
	p->total = total;
	for (unsigned int i = 0; i < c->n_parts; i++) {
		done += &c->parts[i] == p ? 0 : c->parts[i].done;
		total += &c->parts[i] == p ? 0 : c->parts[i].total;
	}
	render_bar_update(&c->bar, &(struct render_progress){ .phase = phase,
							      .done = done,
							      .total = total,
							      .rate = rate,
							      .extra = extra });
	return 0;
}

static bool capture_finished(const struct capture *c)
{
	bool all = true;

	for (unsigned int i = 0; i < c->n_parts; i++)
		all &= c->parts[i].finished;
	return all;
}

static int capture_on_finished(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct capture *c = userdata;
	struct capture_part *p = capture_part_of(c, m);

	(void)error;
	if (!p)
		return 0;
	p->finished = true;
	return capture_finished(c) ? sd_event_exit(c->event, 0) : 0;
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
	int r = 0;

	(void)s, (void)si;
	if (c->interrupted)
		return sd_event_exit(c->event, 0);
	c->interrupted = true;
	render_bar_end(&c->bar);
	for (unsigned int i = 0; i < c->n_parts && r >= 0; i++) {
		r = sd_bus_call_method_async(c->bus, NULL, CLIENT_AGENT, CLIENT_AGENT_PATH,
					     CLIENT_AGENT, "Cancel", NULL, NULL, "o",
					     c->parts[i].path);
	}
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

/* How it gets on with the rest of the server. An older agent refuses what it does not know, so only what was asked for. */
static int capture_append_manners(sd_bus_message *m, const struct capture_args *a)
{
	int r = 0;

	if (a->hooks)
		r = sd_bus_message_append(m, "{sv}", "hooks", "s", a->hooks);
	if (r >= 0 && a->hook_timeout_s) {
		r = sd_bus_message_append(m, "{sv}", "hook_timeout_ms", "u",
					  (uint32_t)(a->hook_timeout_s * 1000));
	}
	if (r >= 0 && a->limit_read)
		r = sd_bus_message_append(m, "{sv}", "limit_read", "t", a->limit_read);
	if (r >= 0 && a->limit_write)
		r = sd_bus_message_append(m, "{sv}", "limit_write", "t", a->limit_write);
	if (r >= 0 && a->full_speed)
		r = sd_bus_message_append(m, "{sv}", "full_speed", "b", 1);
	return r;
}

/* What the repository asks for: its chunk size, and an increment on what it has. */
static int capture_append_repo(sd_bus_message *m, const struct capture_feed *f)
{
	int r;

	r = sd_bus_message_append(m, "{sv}", "chunk_shift", "u",
				  (uint32_t)f->owner->repo->format.chunk_shift);
	if (r >= 0)
		r = sd_bus_message_append(m, "{sv}", "destination", "h", f->owner->fd);
	if (r >= 0 && f->parent)
		r = sd_bus_message_append(m, "{sv}", "parent", "h", f->parent_out);
	return r;
}

static int capture_append_options(sd_bus_message *m, const struct capture_args *a,
				  const struct capture_part *p)
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
	if (r >= 0 && a->chunk_size) {
		r = sd_bus_message_append(m, "{sv}", "chunk_shift", "u",
					  (uint32_t)__builtin_ctzll(a->chunk_size));
	}
	if (r >= 0)
		r = capture_append_manners(m, a);
	/* a name is needed, not a new one: the agent keeps connections apart */
	if (r >= 0 && a->n_sources > 1) {
		r = sd_bus_message_append(m, "{sv}{sv}", "together", "s", "set", "together_count",
					  "u", (uint32_t)a->n_sources);
	}
	if (r >= 0 && a->to_repo)
		r = capture_append_repo(m, &p->feed);
	/* behind our pipe */
	if (r >= 0 && p->sealer.writer)
		r = sd_bus_message_append(m, "{sv}", "destination", "h", p->output.fd);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* What the agent writes into. */
static int capture_agents_fd(const struct capture_part *p)
{
	if (p->feed.owner)
		return p->feed.stream_out;
	return p->sealer.writer ? p->sealer.out : p->output.fd;
}

static int capture_start(struct capture *c, const struct capture_args *a, struct capture_part *p,
			 struct err *e)
{
	_cleanup_free_ char *source = NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	const char *path;
	int r;

	r = capture_absolute(p->source, &source, e);
	if (r < 0)
		return r;
	r = sd_bus_message_new_method_call(c->bus, &m, CLIENT_AGENT, CLIENT_AGENT_PATH,
					   CLIENT_AGENT, "Capture");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", source);
	if (r >= 0)
		r = capture_append_options(m, a, p);
	if (r >= 0)
		r = sd_bus_message_append(m, "h", capture_agents_fd(p));
	if (r >= 0)
		r = sd_bus_call(c->bus, m, 0, &error, &reply);
	if (r < 0)
		return client_error(r, &error, e);
	r = sd_bus_message_read(reply, "o", &path);
	if (r < 0)
		return err_set_errno(e, r, "cannot read the agent's answer");
	p->path = strdup(path);
	return p->path ? 0 : err_oom(e);
}

/* Until the job has ended, or will never tell. */
static int capture_wait(struct capture *c, struct err *e)
{
	int r;

	r = sd_event_loop(c->event);
	if (r < 0)
		return err_set_errno(e, r, "the event loop failed");
	render_bar_end(&c->bar);
	if (capture_finished(c))
		return 0;
	if (c->interrupted)
		return err_set(e, -ECANCELED, "interrupted");
	return err_set(e, -ENOTCONN, "the agent has gone away; there is no image");
}

/* ---- result ------------------------------------------------------------------------------------- */

/* The image into the repository, and what came of it to the result. */
static int capture_commit(struct capture_part *p, json_t *job, struct err *e)
{
	const struct ingest_result *n = &p->feed.numbers;
	char name[REPO_IMAGE_NAME_MAX], hash[2 * REPO_NAME_HASH + 1];
	json_t *more;
	int r;

	r = capture_feed_commit(&p->feed, e);
	if (r < 0)
		return r;
	more = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "image",
		repo_image_name(p->feed.image, name), "hash",
		hex_encode(p->feed.image->hash, REPO_NAME_HASH, hash), "increment",
		p->feed.image->manifest->increment ? p->feed.image->manifest->increment : "full",
		"new_bytes", (json_int_t)n->new_bytes, "new_chunks", (json_int_t)n->new_chunks,
		"known_chunks", (json_int_t)n->known_chunks, "same_chunks",
		(json_int_t)n->same_chunks, "all_chunks", (json_int_t)p->feed.image->all_chunks);
	r = more ? json_object_update(job, more) : -ENOMEM;
	json_decref(more);
	return r < 0 ? err_oom(e) : 0;
}

/* The rest of an encrypted output, and how long it became to the result. */
static int capture_seal(struct capture_part *p, json_t *job, struct err *e)
{
	uint64_t bytes;
	json_t *more;
	int r;

	r = file_sealer_finish(&p->sealer, &bytes, e);
	if (r < 0)
		return r;
	more = json_pack("{s:b, s:I}", "encrypted", 1, "sealed_bytes", (json_int_t)bytes);
	r = more ? json_object_update(job, more) : -ENOMEM;
	json_decref(more);
	return r < 0 ? err_oom(e) : 0;
}

/* Did what reads the agent's pipe fail? Then @e tells why nobody read it any more. */
static bool capture_reader_failed(struct capture_part *p, struct err *e)
{
	if (p->feed.owner)
		return capture_feed_failed(&p->feed, e);
	return p->sealer.writer && file_sealer_failed(&p->sealer, e);
}

/* All jobs' ends, as an array; only when each of them is well an image gets its name. */
static int capture_collect(struct capture *c, uint64_t begun_ns, json_t *jobs, struct err *e)
{
	json_t *job = NULL;
	int r = 0;

	for (unsigned int i = 0; i < c->n_parts; i++) {
		r = capture_report_job(c->bus, c->parts[i].path, c->parts[i].name, begun_ns, &job,
				       e);
		if (r < 0)
			return r;
		if (json_array_append_new(jobs, job) < 0)
			return err_oom(e);
		r = capture_report_error(job, e);
		if (r < 0 && capture_reader_failed(&c->parts[i], e))
			return e->code;
		if (r < 0)
			return r;
	}
	/* it may have been too late for the agent, but not for us */
	if (c->interrupted)
		return err_set(e, -ECANCELED, "interrupted; nothing was left behind");
	for (unsigned int i = 0; i < c->n_parts && r >= 0; i++) {
		if (c->parts[i].sealer.writer)
			r = capture_seal(&c->parts[i], json_array_get(jobs, i), e);
	}
	for (unsigned int i = 0; i < c->n_parts && r >= 0; i++) {
		if (c->parts[i].output.file)
			r = newfile_publish(c->parts[i].output.file, e);
		if (c->parts[i].feed.owner)
			r = capture_commit(&c->parts[i], json_array_get(jobs, i), e);
	}
	return r;
}

static int capture_print(const struct capture *c, const struct capture_args *a, json_t *jobs)
{
	FILE *out = stdout;

	for (unsigned int i = 0; i < c->n_parts; i++) {
		if (c->parts[i].output.is_stdout)
			out = stderr;
	}
	/* render_json() takes over what it prints */
	if (arg_json) {
		return render_json(json_incref(c->n_parts > 1 ? jobs : json_array_get(jobs, 0)),
				   out);
	}
	for (unsigned int i = 0; i < c->n_parts && !a->quiet; i++)
		capture_report_print(c->parts[i].name, json_array_get(jobs, i), out);
	return 0;
}

static int capture_finish(struct capture *c, const struct capture_args *a, uint64_t begun_ns,
			  struct err *e)
{
	json_t *jobs = json_array(), *job;
	uint64_t bad = 0;
	size_t i;
	int r;

	r = jobs ? capture_collect(c, begun_ns, jobs, e) : err_oom(e);
	if (r < 0) {
		json_decref(jobs);
		return verb_fail("capture", e);
	}
	json_array_foreach(jobs, i, job) bad += client_number(job, "bad");
	r = capture_print(c, a, jobs);
	json_decref(jobs);
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

static int capture_start_part(struct capture *c, const struct capture_args *a,
			      struct capture_part *p, struct err *e)
{
	int r;

	if (a->to_repo) {
		r = capture_feed_begin(&p->feed, &c->repo, c->bus, p->source, a->disk, e);
	} else {
		r = capture_output_open(p->name, p->source, a->force, &p->output, e);
		if (r >= 0 && p->head)
			r = file_sealer_begin(&p->sealer, p->output.fd, TAKE_PTR(p->head), e);
	}
	if (r >= 0)
		r = capture_start(c, a, p, e);
	if (r < 0)
		return r;
	if (a->to_repo)
		capture_feed_handed_over(&p->feed);
	file_sealer_handed_over(&p->sealer);
	/* the agent has its own: who reads the pipe sees its end when the agent has closed it */
	if (p->output.owned && !p->sealer.writer) {
		p->output.fd = close_fd(p->output.fd);
		p->output.owned = false;
	}
	return 0;
}

static int capture_run_jobs(struct capture *c, const struct capture_args *a, struct err *e)
{
	enum render_bar_mode mode = RENDER_BAR_AUTO;
	int r;

	r = client_open(arg_socket, &c->bus, e);
	if (r < 0)
		return r;
	r = capture_watch(c);
	if (r < 0)
		return err_set_errno(e, r, "cannot watch the agent");
	for (unsigned int i = 0; i < c->n_parts; i++) {
		r = capture_start_part(c, a, &c->parts[i], e);
		if (r < 0)
			return r;
	}
	if (arg_json)
		mode = a->progress ? RENDER_BAR_JSON : RENDER_BAR_NONE;
	render_bar_begin(&c->bar, a->quiet ? RENDER_BAR_NONE : mode);
	return capture_wait(c, e);
}

/* Each output has a key of its own, which the same people can read. */
static int capture_prepare_encryption(struct capture *c, const struct capture_args *a,
				      struct err *e)
{
	_cleanup_(key_source_readers_done) struct key_source_readers readers = { 0 };
	int r;

	r = key_source_readers(&arg_repo.keys, a->recipients, a->n_recipients, &readers, e);
	for (unsigned int i = 0; i < c->n_parts && r >= 0; i++) {
		r = sealed_head_new(readers.keys, readers.n, SEALED_SHIFT, &c->parts[i].head, e);
	}
	return r;
}

/* Before signals are blocked: opening a FIFO waits for a reader, a passphrase for a person. */
static int capture_prepare(struct capture *c, const struct capture_args *a, struct err *e)
{
	int r = 0;

	c->repo.tags = a->tags.items;
	c->repo.full = a->full;
	c->repo.state_dir = a->state_dir;
	if (a->to_repo)
		r = capture_repo_open(&c->repo, e);
	for (unsigned int i = 0; i < a->n_sources && r >= 0; i++) {
		struct capture_part *p = &c->parts[c->n_parts++];

		*p = (struct capture_part){ .source = a->sources[i] ? a->sources[i] : "",
					    .name = a->to_repo ? arg_repo.path : a->outputs[i],
					    .output = { .fd = -EBADF } };
		if (!a->to_repo)
			r = capture_output_open_special(p->name, &p->output, e);
	}
	return r >= 0 && a->encrypt ? capture_prepare_encryption(c, a, e) : r;
}

int verb_capture(int argc, char **argv)
{
	_cleanup_(capture_done) struct capture c = { 0 };
	struct capture_args a = { .strategy = "auto", .level = CODEC_LEVEL_DEFAULT };
	uint64_t begun_ns = io_now_ns();
	struct err e = { 0 };
	int r;

	r = capture_args_parse(argc, argv, &a);
	if (r >= 0)
		return r;
	r = capture_prepare(&c, &a, &e);
	if (r < 0)
		return verb_fail("capture", &e);
	capture_block_signals();
	r = capture_run_jobs(&c, &a, &e);
	if (r < 0) {
		render_bar_end(&c.bar);
		return verb_fail("capture", &e);
	}
	return capture_finish(&c, &a, begun_ns, &e);
}
