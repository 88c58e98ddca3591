/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/capture_report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "ctl/client.h"
#include "ctl/render.h"
#include "lib/base/io.h"

void capture_report_print(const char *name, const json_t *job, FILE *out)
{
	uint64_t written = client_number(job, "written"), bad = client_number(job, "bad");
	uint64_t read = client_number(job, "read"), ms = client_number(job, "duration_ms");
	uint64_t passes = client_number(job, "passes");
	const char *source = client_text(job, "source");
	char x[RENDER_MAX], y[RENDER_MAX], z[RENDER_MAX], clean[512];

	fprintf(out, "captured %s (%s) to %s\n",
		*source ? render_safe(source, clean, sizeof(clean)) : "the disk that holds /",
		render_size(client_number(job, "disk_size"), x),
		strcmp(name, "-") != 0 ? name : "stdout");
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
	if (*client_text(job, "image")) {
		fprintf(out, "  %s (%s): %s new in %" PRIu64 " of %" PRIu64 " chunks\n",
			client_text(job, "image"), client_text(job, "increment"),
			render_size(client_number(job, "new_bytes"), x),
			client_number(job, "new_chunks"), client_number(job, "all_chunks"));
	}
	if (client_number(job, "sealed_bytes")) {
		fprintf(out, "  encrypted: %s\n",
			render_size(client_number(job, "sealed_bytes"), x));
	}
	if (*client_text(job, "image") && *client_text(job, "increment_reason")) {
		fprintf(out, "  %s\n",
			render_safe(client_text(job, "increment_reason"), clean, sizeof(clean)));
	}
	if (client_number(job, "store_size")) {
		fprintf(out, "  the COW store was filled to %s of %s\n",
			render_size(client_number(job, "store_used"), x),
			render_size(client_number(job, "store_size"), y));
	}
	if (*client_text(job, "strategy_reason")) {
		fprintf(out, "  %s\n",
			render_safe(client_text(job, "strategy_reason"), clean, sizeof(clean)));
	}
	if (client_number(job, "hooks_failed")) {
		fprintf(out, "  %" PRIu64 " hooks failed (journalctl -u ambrod)\n",
			client_number(job, "hooks_failed"));
	}
	if (bad) {
		fprintf(out, "  %s could not be read; the image says where and holds zeros there\n",
			render_size(bad, x));
	}
}

int capture_report_job(sd_bus *bus, const char *path, const char *name, uint64_t begun_ns,
		       json_t **ret, struct err *e)
{
	json_t *job = NULL, *ms, *output;
	int r;

	r = client_job(bus, path, &job, e);
	if (r < 0)
		return r;
	ms = json_integer((json_int_t)((io_now_ns() - begun_ns) / 1000000));
	output = render_json_string(name);
	/* both take their value, and refuse a missing one */
	if (json_object_set_new(job, "duration_ms", ms) < 0 ||
	    json_object_set_new(job, "output", output) < 0) {
		json_decref(job);
		return err_oom(e);
	}
	*ret = job;
	return 0;
}

int capture_report_error(const json_t *job, struct err *e)
{
	int code = (int)json_integer_value(json_object_get(job, "error_code"));

	if (!strcmp(client_text(job, "state"), "done"))
		return 0;
	if (!strcmp(client_text(job, "state"), "canceled"))
		return err_set(e, -ECANCELED, "interrupted; nothing was left behind");
	return err_set(e, code < 0 ? code : -EIO, "%s", client_text(job, "error"));
}
