/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/base/text.h"

/* Rates over the last 3 s at 5 samples a second: steady enough to read, quick enough to believe. */
#define JOB_RATE_WINDOW_NS UINT64_C(3000000000)

void job_free(struct job *j)
{
	if (!j)
		return;
	if (!j->file)
		close_fd(j->request.output_fd);
	close_fd(j->request.parent_fd);
	close_fd(j->request.destination_fd);
	newfile_free(j->file);
	cancel_done(&j->cancel);
	free(j->request.source);
	free(j->request.cow);
	free(j->request.together);
	free(j);
}

/* A copy of @text; of an empty one NULL. False: no memory. */
static bool job_keep(const char *text, char **ret)
{
	if (!text || !*text)
		return true;
	*ret = strdup(text);
	return *ret;
}

int job_new(const struct capture_request *request, struct newfile *file, struct job **ret)
{
	_cleanup_(job_freep) struct job *j = calloc(1, sizeof(*j));
	int r;

	if (!j) {
		if (!file)
			close_fd(request->output_fd);
		close_fd(request->parent_fd);
		close_fd(request->destination_fd);
		newfile_free(file);
		return -ENOMEM;
	}
	j->request = *request;
	j->request.source = j->request.cow = j->request.together = NULL;
	j->file = file;
	if (file)
		j->request.output_fd = file->fd;
	j->seen_phase = PHASE_PREPARE;
	atomic_init(&j->status.strategy, (int)request->strategy);
	r = cancel_init(&j->cancel);
	if (r < 0)
		return r;
	if (!job_keep(request->source, &j->request.source) ||
	    !job_keep(request->cow, &j->request.cow) ||
	    !job_keep(request->together, &j->request.together))
		return -ENOMEM;
	j->started_ns = io_now_ns();
	*ret = TAKE_PTR(j);
	return 0;
}

void job_run(struct job *j)
{
	j->result = capture_run(&j->request, &j->status, &j->cancel, &j->err);
	if (j->result == 0 && j->file)
		j->result = newfile_publish(j->file, &j->err);
	/* here and not in the loop: closing may block, and whoever reads the pipe waits for its end */
	if (!j->file)
		close_fd(j->request.output_fd);
	j->request.parent_fd = close_fd(j->request.parent_fd);
	j->request.destination_fd = close_fd(j->request.destination_fd);
	newfile_free(j->file);
	j->file = NULL;
	j->request.output_fd = -EBADF;
}

void job_end(struct job *j)
{
	j->ended_ns = io_now_ns();
	if (j->result >= 0) {
		j->state = JOB_DONE;
		j->err = (struct err){ 0 };
		return;
	}
	/* an output that was closed because of the cancellation may have been what failed first */
	if (j->result == -ECANCELED || cancel_raised(&j->cancel)) {
		j->state = JOB_CANCELED;
		err_set(&j->err, -ECANCELED, "canceled");
		return;
	}
	j->state = JOB_FAILED;
	if (!*j->err.text)
		err_set_errno(&j->err, j->result, "capture failed");
	j->err.code = j->result;
	/* it goes over D-Bus, which takes UTF-8 only, and may quote the name of a file */
	char text[ERR_TEXT_MAX];
	memcpy(j->err.text, text_clean(j->err.text, true, text, sizeof(text)), sizeof(text));
}

static void job_sample_rate(struct job *j, uint64_t read)
{
	uint64_t now = io_now_ns(), elapsed;
	unsigned int old = 0;

	while (old < j->n_samples && now - j->samples[old].ns > JOB_RATE_WINDOW_NS)
		old++;
	if (j->n_samples == JOB_SAMPLES && !old)
		old = 1;
	/* one sample from before the window's start stays, as long as there is no other to measure from */
	if (old && old == j->n_samples)
		old--;
	memmove(j->samples, j->samples + old, (j->n_samples - old) * sizeof(j->samples[0]));
	j->n_samples -= old;
	if (j->n_samples == JOB_SAMPLES)
		j->n_samples--;
	j->samples[j->n_samples++] = (struct job_sample){ now, read };
	elapsed = now - j->samples[0].ns;
	if (elapsed)
		j->rate = (uint64_t)((double)(read - j->samples[0].read) * 1e9 / (double)elapsed);
}

enum job_news job_sample(struct job *j)
{
	struct capture_status *s = &j->status;
	int phase = atomic_load(&s->phase);
	uint64_t read = atomic_load(&s->read), old_rate = j->rate, sum;
	bool changed;

	job_sample_rate(j, read);
	/* each of them only grows but `dirty`, so equal sums mean, practically, equal numbers */
	sum = atomic_load(&s->done) + 3 * read + 5 * atomic_load(&s->written) +
	      7 * atomic_load(&s->dirty) + 11 * atomic_load(&s->total);
	changed = sum != j->seen_sum || j->rate != old_rate;
	j->seen_sum = sum;
	if (phase != j->seen_phase) {
		j->seen_phase = phase;
		return JOB_NEWS_PHASE;
	}
	return changed ? JOB_NEWS_PROGRESS : JOB_NEWS_NONE;
}

const char *job_state_name(enum job_state s)
{
	static const char *const names[] = {
		[JOB_RUNNING] = "running",
		[JOB_DONE] = "done",
		[JOB_FAILED] = "failed",
		[JOB_CANCELED] = "canceled",
	};

	return names[s];
}
