/* SPDX-License-Identifier: GPL-2.0-or-later */
/* capture_report - how a capture ended, for eyes and as JSON. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <jansson.h>
#include <systemd/sd-bus.h>

#include "lib/base/err.h"

/* @name: where the image is, as the user gave it. */
void capture_report_print(const char *name, const json_t *job, FILE *out);
/* The job's end, as an object that also says how long it took and where the image is. New reference in @ret. */
int capture_report_job(sd_bus *bus, const char *path, const char *name, uint64_t begun_ns,
		       json_t **ret, struct err *e);
/* What the agent says of a job that did not end well; 0 when it did. */
int capture_report_error(const json_t *job, struct err *e);
