/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/control.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#include "agent/bus_agent.h"
#include "agent/bus_driver.h"
#include "agent/bus_job.h"
#include "agent/listener.h"
#include "agent/log.h"
#include "agent/peer.h"

#define CONTROL_GROUP "ambro"
/* More connections a second than any person or script makes. */
#define CONTROL_ACCEPTS_PER_S 50u
/* Supplementary groups of one process; the kernel allows 65536. */
#define CONTROL_GROUPS_MAX 65536u

struct control {
	struct manager *manager;
	struct listener listener;
	sd_event_source *source;
	struct peer_list peers;
	unsigned int n_allowed, n_denied;
	uint64_t last_peer;
	gid_t group; /* looked up once: names may come from a server, and the loop cannot wait */
	bool has_group;
	sd_id128_t id;
};

/* ---- who may ------------------------------------------------------------------------------------ */

/* The groups that the peer had when it connected, primary or not. */
static bool control_in_group(const struct control *c, int fd, const struct ucred *cred)
{
	socklen_t size = 64 * sizeof(gid_t);
	_cleanup_free_ gid_t *groups = NULL;

	if (!c->has_group)
		return false;
	if (cred->gid == c->group)
		return true;
	for (;;) {
		gid_t *more = realloc(groups, size);

		if (!more)
			return false;
		groups = more;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
			break;
		/* ERANGE comes with the size that is needed */
		if (errno != ERANGE || size > CONTROL_GROUPS_MAX * sizeof(gid_t))
			return false;
	}
	for (size_t i = 0; i < size / sizeof(gid_t); i++) {
		if (groups[i] == c->group)
			return true;
	}
	return false;
}

/* The first thing that sees a message, even before the Hello of a message bus. */
static int control_filter(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;

	(void)error;
	if (!sd_bus_message_is_method_call(m, NULL, NULL))
		return 0;
	p->heard = true;
	if (p->allowed)
		return 0;
	return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_ACCESS_DENIED,
					  "only root and members of the group " CONTROL_GROUP
					  " may talk to ambrod");
}

/* ---- connections -------------------------------------------------------------------------------- */

static void peer_free(struct peer *p)
{
	if (!p)
		return;
	sd_bus_close_unref(p->bus);
	free(p);
}
DEFINE_CLEANUP(struct peer, peer_free);

static void control_drop(struct control *c, struct peer *p)
{
	TAILQ_REMOVE(&c->peers, p, link);
	if (p->allowed) {
		c->n_allowed--;
	} else {
		c->n_denied--;
	}
	manager_cancel_owned(c->manager, p->id);
	peer_free(p);
}

static int control_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;

	(void)m, (void)error;
	control_drop(p->control, p);
	return 0;
}

static int peer_start(struct peer *p, const struct control *c, int fd)
{
	int r;

	r = sd_bus_new(&p->bus);
	if (r < 0) {
		close_fd(fd);
		return r;
	}
	r = sd_bus_set_fd(p->bus, fd, fd);
	if (r < 0) {
		close_fd(fd);
		return r;
	}
	r = sd_bus_set_server(p->bus, true, c->id);
	if (r < 0)
		return r;
	/* with those who are refused too, or their library fails before it hears why */
	r = sd_bus_negotiate_fds(p->bus, true);
	if (r < 0)
		return r;
	/* it would wait, at exit, for a client that does not read */
	r = sd_bus_set_close_on_exit(p->bus, false);
	if (r < 0)
		return r;
	r = sd_bus_add_filter(p->bus, NULL, control_filter, p);
	if (r < 0)
		return r;
	r = sd_bus_match_signal(p->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
				"org.freedesktop.DBus.Local", "Disconnected", control_disconnected,
				p);
	if (r < 0)
		return r;
	if (p->allowed) {
		r = bus_driver_add(p);
		if (r < 0)
			return r;
		r = bus_agent_add(p);
		if (r < 0)
			return r;
		r = bus_job_add(p);
		if (r < 0)
			return r;
	}
	r = sd_bus_start(p->bus);
	if (r < 0)
		return r;
	return sd_bus_attach_event(p->bus, c->manager->event, SD_EVENT_PRIORITY_NORMAL);
}

/* Takes over @fd. */
static int control_welcome(struct control *c, int fd_in)
{
	_cleanup_close_ int fd = fd_in;
	_cleanup_(peer_freep) struct peer *p = NULL;
	socklen_t size = sizeof(struct ucred);
	struct ucred cred;
	bool allowed;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	allowed = cred.uid == 0 || control_in_group(c, fd, &cred);
	if (allowed ? c->n_allowed >= CONTROL_MAX_PEERS : c->n_denied >= CONTROL_MAX_DENIED)
		return -EMFILE;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->control = c;
	p->manager = c->manager;
	p->id = ++c->last_peer;
	p->uid = cred.uid;
	p->pid = cred.pid;
	p->allowed = allowed;
	r = peer_start(p, c, TAKE_FD(fd));
	if (r < 0)
		return r;
	if (allowed) {
		c->n_allowed++;
	} else {
		struct log_fields f = { .message_id = LOG_ID_DENIED };

		c->n_denied++;
		log_message(LOG_NOTICE, &f, "process %d of uid %u is not allowed to talk to us",
			    (int)cred.pid, (unsigned int)cred.uid);
	}
	TAILQ_INSERT_TAIL(&c->peers, p, link);
	TAKE_PTR(p);
	return 0;
}

static int control_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	(void)s, (void)revents;
	if (client < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			log_warning("cannot accept a connection: %s", strerrordesc_np(errno));
		return 0;
	}
	r = control_welcome(userdata, client);
	if (r == -EMFILE) {
		log_warning("too many connections: one was closed");
	} else if (r < 0) {
		log_warning("cannot serve a connection: %s", strerrordesc_np(-r));
	}
	return 0;
}

/* ---- signals to all ----------------------------------------------------------------------------- */

static void control_broadcast(struct control *c, struct job *j,
			      int (*emit)(struct peer *p, struct job *j))
{
	struct peer *p, *next;

	for (p = TAILQ_FIRST(&c->peers); p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (!p->allowed || !p->heard || emit(p, j) != -ENOBUFS)
			continue;
		log_warning("process %d does not read what we send: its connection was closed",
			    (int)p->pid);
		control_drop(c, p);
	}
}

static void control_job_progress(struct job *j, void *userdata)
{
	control_broadcast(userdata, j, bus_job_emit_progress);
}

static void control_job_phase(struct job *j, void *userdata)
{
	control_broadcast(userdata, j, bus_job_emit_phase);
}

static void control_job_ended(struct job *j, void *userdata)
{
	control_broadcast(userdata, j, bus_job_emit_ended);
}

/* ---- life --------------------------------------------------------------------------------------- */

static void control_find_group(struct control *c)
{
	/* before any thread is made */
	const struct group *g = getgrnam(CONTROL_GROUP); /* NOLINT(concurrency-mt-unsafe) */

	if (!g) {
		log_info("there is no group " CONTROL_GROUP ": only root may talk to us");
		return;
	}
	c->group = g->gr_gid;
	c->has_group = true;
}

int control_new(struct manager *m, const char *path, int fd, struct control **ret, struct err *e)
{
	_cleanup_(control_freep) struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close_fd(fd);
		return err_oom(e);
	}
	TAILQ_INIT(&c->peers);
	c->manager = m;
	c->listener.fd = -EBADF;
	r = fd >= 0 ? listener_take(fd, &c->listener, e) : listener_open(path, &c->listener, e);
	if (r < 0)
		return r;
	r = sd_id128_randomize(&c->id);
	if (r < 0)
		return err_set_errno(e, r, "cannot get randomness");
	control_find_group(c);
	r = sd_event_add_io(m->event, &c->source, c->listener.fd, EPOLLIN, control_accept, c);
	if (r < 0)
		return err_set_errno(e, r, "cannot watch the control socket");
	r = sd_event_source_set_ratelimit(c->source, 1000000, CONTROL_ACCEPTS_PER_S);
	if (r < 0)
		return err_set_errno(e, r, "cannot watch the control socket");
	m->listener = (struct manager_listener){
		.job_progress = control_job_progress,
		.job_phase = control_job_phase,
		.job_ended = control_job_ended,
		.userdata = c,
	};
	*ret = TAKE_PTR(c);
	return 0;
}

void control_free(struct control *c)
{
	struct peer *p;

	if (!c)
		return;
	while ((p = TAILQ_FIRST(&c->peers)))
		control_drop(c, p);
	sd_event_source_disable_unref(c->source);
	listener_close(&c->listener);
	free(c);
}
