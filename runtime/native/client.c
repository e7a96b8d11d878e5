// Connections of the server: requests, answers, and clients attached to the
// output of a container.
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void conn_answer(struct conn *c, uint32_t type, int status, int64_t a, int64_t b, const char *text, int fd)
{
	struct reply r = { .type = type, .status = status, .a = a, .b = b };
	size_t n = text ? strnlen(text, sizeof r.text) : 0;
	if (!c || c->src.fd < 0)
		return;
	if (n > 0)
		memcpy(r.text, text, n);
	send_fd(c->src.fd, &r, offsetof(struct reply, text) + n, fd, MSG_DONTWAIT);
}

static void conn_free(struct conn *c)
{
	for (struct conn **at = &shim_conns; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	for (int i = 0; i < 2; i++) {
		source_drop(&c->out[i]);
		free(c->pending[i]);
	}
	source_drop(&c->src);
	free(c);
}

static void unblock(struct proc *p)
{
	if (--p->blocked == 0)
		for (int i = 0; i < 2; i++)
			source_rewatch(&p->stream[i], EPOLLIN);
}

static void forget_pending(struct conn *c, int i)
{
	if (!c->pending[i])
		return;
	free(c->pending[i]);
	c->pending[i] = NULL;
	c->off[i] = c->len[i] = 0;
	if (c->attached)
		unblock(c->attached);
}

// An attached client whose container has ended gets the rest and the code.
static int conn_finished(struct conn *c)
{
	if (!c->ended || c->pending[0] || c->pending[1])
		return 0;
	for (int i = 0; i < 2; i++)
		source_drop(&c->out[i]);
	conn_answer(c, c->last.type, c->last.status, c->last.a, c->last.b, NULL, -1);
	return 1;
}

static void client_write(struct conn *c, int i, const char *data, size_t len)
{
	if (c->out[i].fd < 0)
		return;
	ssize_t n = 0;
	if (!c->pending[i]) {
		n = write(c->out[i].fd, data, len);
		if (n < 0 && errno != EAGAIN) {
			source_drop(&c->out[i]);
			return;
		}
		if (n < 0)
			n = 0;
		if ((size_t)n == len)
			return;
		if (c->attached && c->attached->blocked++ == 0)
			for (int k = 0; k < 2; k++)
				source_rewatch(&c->attached->stream[k], 0);
	}
	char *more = realloc(c->pending[i], c->len[i] + len - (size_t)n);
	if (!more) {
		forget_pending(c, i);
		source_drop(&c->out[i]);
		return;
	}
	memcpy(more + c->len[i], data + n, len - (size_t)n);
	c->pending[i] = more;
	c->len[i] += len - (size_t)n;
	source_rewatch(&c->out[i], EPOLLOUT);
}

void client_drain(struct source *s)
{
	struct conn *c = s->owner;
	int i = s == &c->out[1];
	if (!c->pending[i]) { // only errors are reported then: the client has gone
		source_drop(s);
		return;
	}
	ssize_t n = write(s->fd, c->pending[i] + c->off[i], c->len[i] - c->off[i]);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0) {
		forget_pending(c, i);
		source_drop(s);
	} else if ((c->off[i] += (size_t)n) == c->len[i]) {
		forget_pending(c, i);
		source_rewatch(s, 0);
	}
	if (conn_finished(c))
		conn_free(c);
}

// Gives attached clients of a container the rest of its output and its code.
void client_end(struct proc *p, int code, int sig)
{
	for (struct conn *c = shim_conns, *next; c; c = next) {
		next = c->next;
		if (c->attached != p)
			continue;
		c->attached = NULL;
		c->ended = 1;
		c->last = (struct reply){ .type = REPLY_EXIT, .a = code, .b = sig };
		if (conn_finished(c))
			conn_free(c);
	}
}

// Hands output to the clients attached to a container.
void client_output(struct proc *p, int i, const char *data, size_t len)
{
	for (struct conn *c = shim_conns; c; c = c->next)
		if (c->attached == p)
			client_write(c, i, data, len);
}

static int attach_client(struct conn *c, struct request *r, struct fds *fds)
{
	struct proc *p = proc_find(r->id);
	if (!p || p->type != CONTAINER)
		return ESRCH;
	int in = -1;
	if (r->flags & FLAG_STDIN) {
		in = p->flags & FLAG_TTY ? p->stream[0].fd : p->stdin_fd;
		if (in < 0 || !(p->flags & FLAG_STDIN))
			return ENOTCONN;
		c->stdin_once = !!(p->flags & FLAG_STDIN_ONCE);
	}
	c->attached = p;
	int from[2] = { r->out, r->err };
	for (int i = 0; i < 2; i++) {
		int fd = fds_keep(fds, from[i]);
		if (fd < 0)
			continue;
		fcntl(fd, F_SETFL, O_WRONLY | O_NONBLOCK);
		source_watch(&c->out[i], DRAIN, fd, c, 0);
	}
	conn_answer(c, REPLY_STARTED, 0, p->pid, p->started, NULL, in);
	return 0;
}

static void request(struct conn *c, struct request *r, struct fds *fds)
{
	struct proc *p;
	int err = 0;
	r->id[ID_SIZE - 1] = r->target[ID_SIZE - 1] = '\0';
	switch (r->type) {
	case REQ_START:
	case REQ_EXEC:
	case REQ_PAUSE:
		err = proc_start(c, r, fds);
		if (err)
			conn_answer(c, REPLY_ERROR, err, 'F', 0, "start a process", -1);
		return;
	case REQ_ATTACH:
		err = attach_client(c, r, fds);
		if (err)
			conn_answer(c, REPLY_ERROR, err, 'F', 0, "attach", -1);
		return;
	case REQ_SHUTDOWN:
		shim_ending = c->shutdown = 1;
		for (p = shim_procs; p; p = p->next)
			kill(p->pid, SIGKILL);
		return;
	case REQ_SIGNAL:
		// An exec is signalled on its own connection.
		p = c->proc ? c->proc : proc_find(r->id);
		if (!p || kill(p->pid, r->a) < 0)
			err = p ? errno : ESRCH;
		if (c->proc)
			return;
		break;
	case REQ_RESIZE: {
		struct winsize w = { .ws_col = (unsigned short)r->a, .ws_row = (unsigned short)r->b };
		p = proc_find(r->id);
		if (!p || !(p->flags & FLAG_TTY) || p->stream[0].fd < 0)
			err = p ? ENOTTY : ESRCH;
		else if (ioctl(p->stream[0].fd, TIOCSWINSZ, &w) < 0)
			err = errno;
		break;
	}
	case REQ_REOPEN:
		p = proc_find(r->id);
		if (!p) {
			err = ESRCH;
			break;
		}
		shim_close(&p->log_fd);
		p->log_fd = fds_keep(fds, r->log);
		break;
	case REQ_STDIN_END:
		// The first client of a container that reads its input once has said
		// all; the copies of the pipe that clients held are closed by now.
		p = proc_find(r->id);
		if (p && (p->flags & FLAG_STDIN_ONCE) && !(p->flags & FLAG_TTY))
			shim_close(&p->stdin_fd);
		break;
	default:
		err = EPROTO;
	}
	conn_answer(c, err ? REPLY_ERROR : REPLY_OK, err, 'F', 0, NULL, -1);
}

void conn_ready(struct source *s)
{
	struct conn *c = s->owner;
	struct request r;
	struct fds fds;
	memset(&r, 0, sizeof r);
	ssize_t n = recv_fds(s->fd, &r, sizeof r, &fds);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n == (ssize_t)sizeof r) {
		request(c, &r, &fds);
	} else {
		// The server hung up: its exec ends, its attached client is gone.
		if (c->proc) {
			if (c->proc->type == EXEC)
				kill(c->proc->pid, SIGKILL);
			c->proc->conn = NULL;
		}
		struct proc *p = c->attached;
		if (p) {
			for (int i = 0; i < 2; i++)
				forget_pending(c, i);
			if (c->stdin_once && !(p->flags & FLAG_TTY))
				shim_close(&p->stdin_fd);
		}
		conn_free(c);
	}
	for (int i = 0; i < fds.n; i++)
		close(fds.fd[i]);
}

void conn_accept(int fd)
{
	int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s < 0)
		return;
	struct conn *c = calloc(1, sizeof *c);
	if (!c) {
		close(s);
		return;
	}
	c->out[0].fd = c->out[1].fd = -1;
	c->next = shim_conns;
	shim_conns = c;
	source_watch(&c->src, CONN, s, c, EPOLLIN);
}
