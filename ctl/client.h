/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * client - the connection to the agent (docs/CONTROL.md), and its answers as JSON values.
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-bus.h>

#include "lib/base/err.h"

#define CLIENT_AGENT_PATH "/org/ambrotype/Agent1"
#define CLIENT_AGENT	  "org.ambrotype.Agent1"
#define CLIENT_JOB	  "org.ambrotype.Job1"

/* -ENOTCONN with words when nobody listens on @socket. */
int client_open(const char *socket, sd_bus **ret, struct err *e);
/* @r from an sd_bus_call…() and @error (which is freed) into @e; returns the code. */
int client_error(int r, sd_bus_error *error, struct err *e);
/* Call a method of the agent's object and wait for the answer. @types and what follows: as sd_bus_call_method(). */
int client_call(sd_bus *bus, const char *member, sd_bus_message **ret_reply, struct err *e,
		const char *types, ...);

/* The next value of @m as JSON; arrays of dictionary entries become objects. New reference in @ret. */
int client_read_json(sd_bus_message *m, json_t **ret);
/* All properties of an object, as a JSON object, under their D-Bus names. */
int client_properties(sd_bus *bus, const char *path, const char *interface, json_t **ret,
		      struct err *e);
/*
 * A job: job (its path), source, state, phase, strategy, increment_reason, total, done, read, written, dirty, bad, disk_size,
 * rate, passes, freeze_us, error_code, error.
 */
int client_job(sd_bus *bus, const char *path, json_t **ret, struct err *e);

/* Members that are not there, or are of another type, are 0 or "". */
uint64_t client_number(const json_t *object, const char *key);
const char *client_text(const json_t *object, const char *key);
