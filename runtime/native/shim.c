// The shim: the parent of all containers of a pod. It makes the pod's
// namespaces, clones the containers, pumps their output into logs and to
// attached clients, reaps them, and records how each ended in the file "exit"
// of the container's directory. It outlives the server, which talks to it
// through a socket, one request a connection (shim.go).
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// As in shim.go: descriptors at the start, requests, replies.
enum { BOOT_FD = 3, LISTEN_FD, READY_FD, EVENTS_DIR_FD, LEAN_FD, FIRST_JOIN_FD };
enum { BOOT_NET = 1, BOOT_IPC = 2, BOOT_UTS = 4 };
enum { REQ_START = 1, REQ_EXEC, REQ_PAUSE, REQ_SIGNAL, REQ_RESIZE, REQ_REOPEN, REQ_ATTACH, REQ_SHUTDOWN, REQ_STDIN_END };
enum { REPLY_OK = 1, REPLY_ERROR, REPLY_STARTED, REPLY_TTY, REPLY_EXIT };
enum { FLAG_TTY = 1, FLAG_STDIN = 2, FLAG_STDIN_ONCE = 4 };

enum { ID_SIZE = 136, CHUNK = 65536 };

struct request {
	uint32_t type, flags, clone_flags;
	int32_t plan, dir, log, oom, cgroup, in, out, err;  // indices of descriptors, or -1
	int32_t a, b;                                       // signal; width and height
	char id[ID_SIZE], target[ID_SIZE];
};

struct reply {
	uint32_t type;
	int32_t status;
	int64_t a, b;
	char text[4096];
};

enum kind { LISTEN, SIGNALS, CONN, REPORT, STREAM, DRAIN };

// What an event of epoll is about.
struct source {
	enum kind kind;
	int fd;
	void *owner;
};

// A connection of the server: one request and, for exec and attach, its life.
struct conn {
	struct conn *next;
	struct source src;
	struct proc *proc;       // waits for its start or is its exec
	struct proc *attached;   // gets its output
	struct source out[2];    // attached client's stdout and stderr
	char *pending[2];        // output it has not taken yet
	size_t off[2], len[2];
	int stdin_once, ended, shutdown;
	struct reply last;       // sent when ended and nothing is pending
};

// A child: container, exec or pause.
struct proc {
	struct proc *next;
	char id[ID_SIZE];
	enum { CONTAINER, EXEC, PAUSE } type;
	pid_t pid;
	uint32_t flags;
	struct conn *conn;       // who wants to know of start (and end, of an exec)
	struct source report;    // open until the child executes
	struct source stream[2]; // stdout and stderr, or the terminal and nothing
	struct logstream log[2];
	int log_fd, dir_fd, oom_fd, stdin_fd;
	uint64_t oom_before;
	int blocked;             // attached clients that are behind
	int64_t started;
};

// An end not yet told to the server.
struct notice {
	struct notice *next;
	char text[2 * ID_SIZE + 8];
};

static int epfd, own_pidns, terminating;
static struct conn *conns;
static struct proc *procs;
static struct notice *notices;
static char pod[ID_SIZE];
static char chunk[CHUNK];

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void watch(struct source *s, enum kind kind, int fd, void *owner, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };
	s->kind = kind;
	s->fd = fd;
	s->owner = owner;
	epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
}

static void rewatch(struct source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };
	if (s->fd >= 0)
		epoll_ctl(epfd, EPOLL_CTL_MOD, s->fd, &e);
}

static void drop(struct source *s)
{
	if (s->fd < 0)
		return;
	// A child may hold a duplicate, so closing alone would not unregister.
	epoll_ctl(epfd, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct proc *find(const char *id)
{
	for (struct proc *p = procs; p; p = p->next)
		if (p->type != EXEC && strcmp(p->id, id) == 0)
			return p;
	return NULL;
}

static void answer(struct conn *c, uint32_t type, int status, int64_t a, int64_t b, const char *text, int fd)
{
	struct reply r = { .type = type, .status = status, .a = a, .b = b };
	size_t n = text ? strnlen(text, sizeof r.text) : 0;
	if (!c || c->src.fd < 0)
		return;
	if (n > 0)
		memcpy(r.text, text, n);
	send_fd(c->src.fd, &r, offsetof(struct reply, text) + n, fd, MSG_DONTWAIT);
}

// ---- notices to the server ----

// Tells the server, if one listens, that there is an exit file to read. A
// server that comes later looks at all of them when it starts.
static int notify(const char *text)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/events.sock", EVENTS_DIR_FD);
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return 0;
	ssize_t n = sendto(s, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a, sizeof a);
	int full = n < 0 && (errno == EAGAIN || errno == ENOBUFS);
	close(s);
	return !full;
}

static void notify_later(const char *id)
{
	struct notice *n = calloc(1, sizeof *n), **at = &notices;
	if (!n)
		return;
	snprintf(n->text, sizeof n->text, "exit %s %s", pod, id);
	while (*at)
		at = &(*at)->next;
	*at = n;
}

static void send_notices(void)
{
	while (notices && notify(notices->text)) {
		struct notice *n = notices;
		notices = n->next;
		free(n);
	}
}

// ---- attached clients ----

static void conn_free(struct conn *c)
{
	for (struct conn **at = &conns; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	for (int i = 0; i < 2; i++) {
		drop(&c->out[i]);
		free(c->pending[i]);
	}
	drop(&c->src);
	free(c);
}

static void unblock(struct proc *p)
{
	if (--p->blocked == 0)
		for (int i = 0; i < 2; i++)
			rewatch(&p->stream[i], EPOLLIN);
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
		drop(&c->out[i]);
	answer(c, c->last.type, c->last.status, c->last.a, c->last.b, NULL, -1);
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
			drop(&c->out[i]);
			return;
		}
		if (n < 0)
			n = 0;
		if ((size_t)n == len)
			return;
		if (c->attached && c->attached->blocked++ == 0)
			for (int k = 0; k < 2; k++)
				rewatch(&c->attached->stream[k], 0);
	}
	char *more = realloc(c->pending[i], c->len[i] + len - (size_t)n);
	if (!more) {
		forget_pending(c, i);
		drop(&c->out[i]);
		return;
	}
	memcpy(more + c->len[i], data + n, len - (size_t)n);
	c->pending[i] = more;
	c->len[i] += len - (size_t)n;
	rewatch(&c->out[i], EPOLLOUT);
}

static void client_drain(struct source *s)
{
	struct conn *c = s->owner;
	int i = s == &c->out[1];
	if (!c->pending[i]) { // only errors are reported then: the client has gone
		drop(s);
		return;
	}
	ssize_t n = write(s->fd, c->pending[i] + c->off[i], c->len[i] - c->off[i]);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0) {
		forget_pending(c, i);
		drop(s);
	} else if ((c->off[i] += (size_t)n) == c->len[i]) {
		forget_pending(c, i);
		rewatch(s, 0);
	}
	if (conn_finished(c))
		conn_free(c);
}

// ---- output ----

// Moves what a stream has to the log and to attached clients. Returns 0 at its
// end, -1 when there is nothing now.
static int pump(struct proc *p, int i)
{
	ssize_t n = read(p->stream[i].fd, chunk, sizeof chunk);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && errno == EAGAIN)
		return -1;
	if (n <= 0) // a terminal says EIO when its other end has closed
		return 0;
	log_data(&p->log[i], p->log_fd, chunk, (size_t)n);
	for (struct conn *c = conns; c; c = c->next)
		if (c->attached == p)
			client_write(c, i, chunk, (size_t)n);
	return 1;
}

static void stream_ready(struct source *s)
{
	struct proc *p = s->owner;
	int i = s == &p->stream[1];
	if (pump(p, i) == 0)
		drop(s);
}

// ---- life of a child ----

static uint64_t oom_kills(int fd)
{
	char text[1024];
	if (fd < 0)
		return 0;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	for (char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, "oom_kill ", 9) == 0)
			return strtoull(line + 9, NULL, 10);
	}
	return 0;
}

// Writes a file of a container's directory so that it is there whole or not.
static void record(int dir, const char *name, const char *text, int sync)
{
	char tmp[32];
	snprintf(tmp, sizeof tmp, "%s.tmp", name);
	int f = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f < 0)
		return;
	int ok = write_all(f, text, strlen(text)) == 0;
	if (sync)
		ok = fsync(f) == 0 && ok;
	close(f);
	if (ok)
		renameat(dir, tmp, dir, name);
}

// The kernel's start time of a process, which with its number names it for
// good as long as the machine runs.
static unsigned long long start_time(pid_t pid)
{
	char name[64], text[1024];
	snprintf(name, sizeof name, "/proc/%d/stat", pid);
	int f = open(name, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return 0;
	ssize_t n = read(f, text, sizeof text - 1);
	close(f);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	char *at = strrchr(text, ')'); // the name before it may hold anything
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

static void proc_free(struct proc *p)
{
	for (struct proc **at = &procs; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	drop(&p->report);
	for (int i = 0; i < 2; i++) {
		drop(&p->stream[i]);
		log_end(&p->log[i], -1);
	}
	close_fd(&p->log_fd);
	close_fd(&p->dir_fd);
	close_fd(&p->oom_fd);
	close_fd(&p->stdin_fd);
	free(p);
}

// How the start went, as far as the child has said. Returns 0 when it has yet
// to say more, 1 when it executes, -1 when it failed; text is then the error.
static int hear_report(struct proc *p, struct reply *error)
{
	struct fds fds;
	for (;;) {
		char *text = chunk;
		ssize_t n = recv_fds(p->report.fd, text, 4200, &fds);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			drop(&p->report);
			return 1;
		}
		if (text[0] == REPORT_TTY && fds.n == 1) {
			if (p->type == EXEC) {
				answer(p->conn, REPLY_TTY, 0, 0, 0, NULL, fds.fd[0]);
				close(fds.fd[0]);
			} else {
				fcntl(fds.fd[0], F_SETFL, O_RDWR | O_NONBLOCK);
				watch(&p->stream[0], STREAM, fds.fd[0], p, p->blocked ? 0 : EPOLLIN);
			}
			continue;
		}
		for (int i = 0; i < fds.n; i++)
			close(fds.fd[i]);
		if (text[0] == REPORT_ERROR && n >= 6) {
			int err;
			memcpy(&err, text + 2, sizeof err);
			error->a = text[1];
			error->status = err;
			size_t len = (size_t)n - 6;
			if (len > sizeof error->text - 1)
				len = sizeof error->text - 1;
			memcpy(error->text, text + 6, len);
			error->text[len] = '\0';
			drop(&p->report);
			return -1;
		}
	}
}

static void started(struct proc *p)
{
	char text[128];
	p->started = now();
	if (p->type == CONTAINER) {
		snprintf(text, sizeof text, "pid %d\nticks %llu\nstarted %lld\n", p->pid, start_time(p->pid),
			 (long long)p->started);
		record(p->dir_fd, "start", text, 0);
	}
	answer(p->conn, REPLY_STARTED, 0, p->pid, p->started, NULL, -1);
	if (p->type != EXEC && p->conn) {
		p->conn->proc = NULL;
		p->conn = NULL;
	}
}

static void ended(struct proc *p, int status)
{
	struct reply error = { .type = REPLY_ERROR };
	int failed = 0;
	if (p->report.fd >= 0) {
		int r = hear_report(p, &error);
		if (r > 0 && !p->started)
			started(p);
		failed = r < 0;
	}
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (failed) {
		answer(p->conn, REPLY_ERROR, error.status, error.a, 0, error.text, -1);
		code = 128;
	} else if (p->type == EXEC) {
		answer(p->conn, REPLY_EXIT, 0, code, sig, NULL, -1);
	}
	if (p->conn)
		p->conn->proc = NULL;
	p->conn = NULL;

	if (p->type == CONTAINER) {
		// What it wrote before it ended is still in the pipes. Others may hold
		// them open (a shared PID namespace), so stop when they are empty.
		for (int i = 0; i < 2; i++) {
			while (p->stream[i].fd >= 0 && pump(p, i) > 0)
				;
			log_end(&p->log[i], p->log_fd);
		}
		uint64_t oom = oom_kills(p->oom_fd);
		char text[4600];
		int n = snprintf(text, sizeof text, "code %d\nsignal %d\noom %llu\nstarted %lld\nfinished %lld\n", code, sig,
				 (unsigned long long)(oom > p->oom_before ? oom - p->oom_before : 0),
				 (long long)p->started, (long long)now());
		if (failed)
			snprintf(text + n, sizeof text - (size_t)n, "kind %c\nerrno %d\nerror %s\n", (char)error.a,
				 error.status, error.text);
		// A pod on its way out takes the record with it.
		record(p->dir_fd, "exit", text, !terminating);
		for (struct conn *c = conns, *next; c; c = next) {
			next = c->next;
			if (c->attached != p)
				continue;
			c->attached = NULL;
			c->ended = 1;
			c->last = (struct reply){ .type = REPLY_EXIT, .a = code, .b = sig };
			if (conn_finished(c))
				conn_free(c);
		}
		notify_later(p->id);
	}
	int was_pause = p->type == PAUSE;
	proc_free(p);
	if (was_pause) // the kernel has killed every container of the namespace
		terminating = 1;
}

static void report_ready(struct source *s)
{
	struct proc *p = s->owner;
	struct reply error = { 0 };
	// On an error the child is about to end; ended() tells it all at once.
	if (p->report.fd >= 0 && recv(p->report.fd, chunk, 1, MSG_PEEK | MSG_DONTWAIT) > 0 && chunk[0] == REPORT_ERROR) {
		epoll_ctl(epfd, EPOLL_CTL_DEL, s->fd, NULL);
		return;
	}
	if (hear_report(p, &error) > 0)
		started(p);
}

static void reap(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct proc *p = procs; p; p = p->next)
			if (p->pid == pid) {
				ended(p, status);
				break;
			}
}

// ---- requests ----

static int at(const struct fds *fds, int32_t i)
{
	return i >= 0 && i < fds->n ? fds->fd[i] : -1;
}

static int keep(const struct fds *fds, int32_t i)
{
	return at(fds, i) < 0 ? -1 : fcntl(at(fds, i), F_DUPFD_CLOEXEC, 3);
}

// Starts a container, exec or pause. Returns 0, or an error number.
static int start(struct conn *conn, struct request *r, struct fds *fds)
{
	struct child c = { .fds = fds, .in = 0, .out = 1, .err = 2, .report = -1, .joins = r->a };
	int report[2], in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, result = 0;
	void *map = NULL;
	size_t size = 0;
	struct proc *target = NULL, *p;
	if (r->type != REQ_EXEC && find(r->id))
		return EEXIST;
	if (r->target[0] && !(target = find(r->target)))
		return ESRCH;
	if (!(p = calloc(1, sizeof *p)))
		return ENOMEM;
	memcpy(p->id, r->id, sizeof p->id);
	p->type = r->type == REQ_EXEC ? EXEC : r->type == REQ_PAUSE ? PAUSE : CONTAINER;
	p->flags = r->flags;
	p->report.fd = p->stream[0].fd = p->stream[1].fd = -1;
	p->log[0].name = "stdout";
	p->log[1].name = "stderr";
	p->log_fd = keep(fds, r->log);
	p->dir_fd = keep(fds, r->dir);
	p->oom_fd = keep(fds, r->oom);
	p->oom_before = oom_kills(p->oom_fd);
	p->stdin_fd = -1;
	p->next = procs;
	procs = p;

	if (r->plan >= 0) {
		struct stat st;
		if (fstat(at(fds, r->plan), &st) < 0)
			goto fail;
		size = (size_t)st.st_size;
		map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, at(fds, r->plan), 0);
		if (map == MAP_FAILED)
			goto fail;
		c.plan.at = map;
		c.plan.end = c.plan.at + size;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		goto fail;
	fcntl(report[0], F_SETFL, O_RDWR | O_NONBLOCK);
	watch(&p->report, REPORT, report[0], p, EPOLLIN);
	c.report = report[1];
	if (p->type == EXEC) {
		c.in = at(fds, r->in) < 0 ? 0 : at(fds, r->in);
		c.out = at(fds, r->out) < 0 ? 1 : at(fds, r->out);
		c.err = at(fds, r->err) < 0 ? 2 : at(fds, r->err);
	} else if (p->type == CONTAINER && !(r->flags & FLAG_TTY)) {
		if (pipe2(out, O_CLOEXEC) < 0)
			goto fail;
		fcntl(out[0], F_SETFL, O_NONBLOCK);
		watch(&p->stream[0], STREAM, out[0], p, EPOLLIN);
		if (pipe2(err, O_CLOEXEC) < 0)
			goto fail;
		fcntl(err[0], F_SETFL, O_NONBLOCK);
		watch(&p->stream[1], STREAM, err[0], p, EPOLLIN);
		if ((r->flags & FLAG_STDIN) && pipe2(in, O_CLOEXEC) < 0)
			goto fail;
		p->stdin_fd = in[1];
		c.out = out[1];
		c.err = err[1];
		if (in[0] >= 0)
			c.in = in[0];
	}
	if (target) {
		// The plan names the target by the index after the last one sent.
		int pidfd = (int)syscall(SYS_pidfd_open, target->pid, 0);
		if (pidfd < 0 || setns(pidfd, CLONE_NEWPID) < 0) {
			if (pidfd >= 0)
				close(pidfd);
			goto fail;
		}
		fds->fd[fds->n++] = pidfd;
	}
	struct clone_args args = { .flags = r->clone_flags, .exit_signal = SIGCHLD };
	if (at(fds, r->cgroup) >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)at(fds, r->cgroup);
	}
	p->pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (p->pid == 0) {
		if (p->type == PAUSE)
			pause_run(&c);
		child_run(&c);
	}
	if (p->pid < 0)
		result = errno;
	if (target)
		setns(own_pidns, CLONE_NEWPID);
	if (result == 0) {
		p->conn = conn;
		conn->proc = p;
	}
	goto done;
fail:
	result = errno ? errno : EINVAL;
done:
	if (map && map != MAP_FAILED)
		munmap(map, size);
	close_fd(&c.report);
	close_fd(&out[1]);
	close_fd(&err[1]);
	close_fd(&in[0]);
	if (result)
		proc_free(p);
	return result;
}

static int attach_client(struct conn *c, struct request *r, struct fds *fds)
{
	struct proc *p = find(r->id);
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
		int fd = keep(fds, from[i]);
		if (fd < 0)
			continue;
		fcntl(fd, F_SETFL, O_WRONLY | O_NONBLOCK);
		watch(&c->out[i], DRAIN, fd, c, 0);
	}
	answer(c, REPLY_STARTED, 0, p->pid, p->started, NULL, in);
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
		err = start(c, r, fds);
		if (err)
			answer(c, REPLY_ERROR, err, 'F', 0, "start a process", -1);
		return;
	case REQ_ATTACH:
		err = attach_client(c, r, fds);
		if (err)
			answer(c, REPLY_ERROR, err, 'F', 0, "attach", -1);
		return;
	case REQ_SHUTDOWN:
		terminating = c->shutdown = 1;
		for (p = procs; p; p = p->next)
			kill(p->pid, SIGKILL);
		return;
	case REQ_SIGNAL:
		// An exec is signalled on its own connection.
		p = c->proc ? c->proc : find(r->id);
		if (!p || kill(p->pid, r->a) < 0)
			err = p ? errno : ESRCH;
		if (c->proc)
			return;
		break;
	case REQ_RESIZE: {
		struct winsize w = { .ws_col = (unsigned short)r->a, .ws_row = (unsigned short)r->b };
		p = find(r->id);
		if (!p || !(p->flags & FLAG_TTY) || p->stream[0].fd < 0)
			err = p ? ENOTTY : ESRCH;
		else if (ioctl(p->stream[0].fd, TIOCSWINSZ, &w) < 0)
			err = errno;
		break;
	}
	case REQ_REOPEN:
		p = find(r->id);
		if (!p) {
			err = ESRCH;
			break;
		}
		close_fd(&p->log_fd);
		p->log_fd = keep(fds, r->log);
		break;
	case REQ_STDIN_END:
		// The first client of a container that reads its input once has said
		// all; the copies of the pipe that clients held are closed by now.
		p = find(r->id);
		if (p && (p->flags & FLAG_STDIN_ONCE) && !(p->flags & FLAG_TTY))
			close_fd(&p->stdin_fd);
		break;
	default:
		err = EPROTO;
	}
	answer(c, err ? REPLY_ERROR : REPLY_OK, err, 'F', 0, NULL, -1);
}

static void conn_ready(struct source *s)
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
				close_fd(&p->stdin_fd);
		}
		conn_free(c);
	}
	for (int i = 0; i < fds.n; i++)
		close(fds.fd[i]);
}

static void accept_conn(int fd)
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
	c->next = conns;
	conns = c;
	watch(&c->src, CONN, s, c, EPOLLIN);
}

// ---- start of the shim itself ----

static _Noreturn void boot_failed(const char *what)
{
	char text[256];
	int n = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
	(void)!write(READY_FD, text, (size_t)n);
	_exit(1);
}

// Brings up the loopback interface of a new network namespace.
static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	if (ioctl(s, SIOCGIFFLAGS, &ifr) == 0) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(s, SIOCSIFFLAGS, &ifr);
	}
	close(s);
}

static void boot(void)
{
	struct stat st;
	if (fstat(BOOT_FD, &st) < 0)
		boot_failed("read the sandbox");
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, BOOT_FD, 0);
	if (map == MAP_FAILED)
		boot_failed("read the sandbox");
	struct plan p = { .at = map, .end = (unsigned char *)map + st.st_size };
	uint32_t flags = plan_u32(&p);
	snprintf(pod, sizeof pod, "%s", plan_str(&p));
	const char *hostname = plan_str(&p), *domain = plan_str(&p), *shm = plan_str(&p);
	uint32_t joins = plan_u32(&p);
	for (uint32_t i = 0; i < joins; i++) {
		(void)!write(FIRST_JOIN_FD + (int)i, "0", 1);
		close(FIRST_JOIN_FD + (int)i);
	}
	// What the server itself inherited is no business of containers.
	syscall(SYS_close_range, FIRST_JOIN_FD, ~0U, 0);
	int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (oom >= 0) {
		(void)!write(oom, "-998", 4);
		close(oom);
	}
	int ns = 0;
	if (flags & BOOT_NET)
		ns |= CLONE_NEWNET;
	if (flags & BOOT_IPC)
		ns |= CLONE_NEWIPC;
	if (flags & BOOT_UTS)
		ns |= CLONE_NEWUTS;
	if (ns && unshare(ns) < 0)
		boot_failed("make namespaces");
	if (flags & BOOT_NET)
		loopback_up();
	if ((flags & BOOT_UTS) && sethostname(hostname, strlen(hostname)) < 0)
		boot_failed("set the hostname");
	if ((flags & BOOT_UTS) && domain[0] && setdomainname(domain, strlen(domain)) < 0)
		boot_failed("set the domain name");
	for (uint32_t n = plan_u32(&p); n > 0 && !p.bad; n--) {
		const char *name = plan_str(&p), *value = plan_str(&p);
		char path[512];
		snprintf(path, sizeof path, "/proc/sys/%s", name);
		int f = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
		if (f < 0 || write(f, value, strlen(value)) < 0) {
			snprintf(path, sizeof path, "set sysctl %s", name);
			boot_failed(path);
		}
		close(f);
	}
	if (p.bad) {
		errno = EPROTO;
		boot_failed("read the sandbox");
	}
	own_pidns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	// A mount namespace with next to nothing in it: containers are cloned from
	// it, and copying the host's, with its mounts by the ten thousand, is slow.
	if (own_pidns < 0 || setns(LEAN_FD, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
		boot_failed("enter the mount namespace");
	if ((flags & BOOT_IPC) && mount("shm", "/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, shm) < 0)
		boot_failed("mount /dev/shm");
	munmap(map, (size_t)st.st_size);
	close(BOOT_FD);
	close(LEAN_FD);
}

_Noreturn void shim_main(void)
{
	static struct source listener, signals;
	for (int fd = BOOT_FD; fd < FIRST_JOIN_FD + 32; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_NAME, "sagong-shim");
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	sigset_t mask;
	sigfillset(&mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	boot();
	epfd = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	int sfd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (epfd < 0 || sfd < 0)
		boot_failed("set up");
	watch(&signals, SIGNALS, sfd, NULL, EPOLLIN);
	watch(&listener, LISTEN, LISTEN_FD, NULL, EPOLLIN);
	(void)!write(READY_FD, "R", 1);
	close(READY_FD);
	// SIGTERM comes when the machine goes down: the containers get theirs too,
	// and the shim ends when they have. It never ends while one runs.
	while (!(terminating && !procs)) {
		struct epoll_event e;
		int n = epoll_wait(epfd, &e, 1, notices ? 20 : -1);
		if (n > 0) {
			struct source *s = e.data.ptr;
			struct signalfd_siginfo si;
			switch (s->kind) {
			case LISTEN:
				accept_conn(s->fd);
				break;
			case SIGNALS:
				while (read(s->fd, &si, sizeof si) == sizeof si)
					if (si.ssi_signo == SIGTERM)
						terminating = 1;
				reap();
				break;
			case CONN:
				conn_ready(s);
				break;
			case REPORT:
				report_ready(s);
				break;
			case STREAM:
				stream_ready(s);
				break;
			case DRAIN:
				client_drain(s);
				break;
			}
		}
		send_notices();
	}
	send_notices();
	for (struct conn *c = conns; c; c = c->next)
		if (c->shutdown)
			answer(c, REPLY_OK, 0, 0, 0, NULL, -1);
	_exit(0);
}
