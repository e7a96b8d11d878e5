// The life of a child of the shim: cloned, watched until it executes, its output
// pumped, reaped, its end recorded.
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Moves what a stream has to the log and to attached clients. Returns 0 at its
// end, -1 when there is nothing now.
static int pump(struct proc *p, int i)
{
	ssize_t n = read(p->stream[i].fd, shim_chunk, sizeof shim_chunk);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && errno == EAGAIN)
		return -1;
	if (n <= 0) // a terminal says EIO when its other end has closed
		return 0;
	log_data(&p->log[i], p->log_fd, shim_chunk, (size_t)n);
	client_output(p, i, shim_chunk, (size_t)n);
	return 1;
}

void proc_stream_ready(struct source *s)
{
	struct proc *p = s->owner;
	int i = s == &p->stream[1];
	if (pump(p, i) == 0)
		source_drop(s);
}

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
	for (struct proc **at = &shim_procs; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	source_drop(&p->report);
	for (int i = 0; i < 2; i++) {
		source_drop(&p->stream[i]);
		log_end(&p->log[i], -1);
	}
	shim_close(&p->log_fd);
	shim_close(&p->dir_fd);
	shim_close(&p->oom_fd);
	shim_close(&p->stdin_fd);
	free(p);
}

// How the start went, as far as the child has said. Returns 0 when it has yet
// to say more, 1 when it executes, -1 when it failed; text is then the error.
static int hear_report(struct proc *p, struct reply *error)
{
	struct fds fds;
	for (;;) {
		char *text = shim_chunk;
		ssize_t n = recv_fds(p->report.fd, text, 4200, &fds);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			source_drop(&p->report);
			return 1;
		}
		if (text[0] == REPORT_TTY && fds.n == 1) {
			if (p->type == EXEC) {
				conn_answer(p->conn, REPLY_TTY, 0, 0, 0, NULL, fds.fd[0]);
				close(fds.fd[0]);
			} else {
				fcntl(fds.fd[0], F_SETFL, O_RDWR | O_NONBLOCK);
				source_watch(&p->stream[0], STREAM, fds.fd[0], p, p->blocked ? 0 : EPOLLIN);
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
			source_drop(&p->report);
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
	conn_answer(p->conn, REPLY_STARTED, 0, p->pid, p->started, NULL, -1);
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
		conn_answer(p->conn, REPLY_ERROR, error.status, error.a, 0, error.text, -1);
		code = 128;
	} else if (p->type == EXEC) {
		conn_answer(p->conn, REPLY_EXIT, 0, code, sig, NULL, -1);
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
		record(p->dir_fd, "exit", text, !shim_ending);
		client_end(p, code, sig);
		notice_add(p->id);
	}
	int was_pause = p->type == PAUSE;
	proc_free(p);
	if (was_pause) // the kernel has killed every container of the namespace
		shim_ending = 1;
}

void proc_report_ready(struct source *s)
{
	struct proc *p = s->owner;
	struct reply error = { 0 };
	// On an error the child is about to end; ended() tells it all at once.
	if (p->report.fd >= 0 && recv(p->report.fd, shim_chunk, 1, MSG_PEEK | MSG_DONTWAIT) > 0 && shim_chunk[0] == REPORT_ERROR) {
		epoll_ctl(shim_epoll, EPOLL_CTL_DEL, s->fd, NULL);
		return;
	}
	if (hear_report(p, &error) > 0)
		started(p);
}

void proc_reap(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct proc *p = shim_procs; p; p = p->next)
			if (p->pid == pid) {
				ended(p, status);
				break;
			}
}

static int at(const struct fds *fds, int32_t i)
{
	return i >= 0 && i < fds->n ? fds->fd[i] : -1;
}

int fds_keep(const struct fds *fds, int32_t i)
{
	return at(fds, i) < 0 ? -1 : fcntl(at(fds, i), F_DUPFD_CLOEXEC, 3);
}

// Starts a container, exec or pause. Returns 0, or an error number.
int proc_start(struct conn *conn, struct request *r, struct fds *fds)
{
	struct child c = { .fds = fds, .in = 0, .out = 1, .err = 2, .report = -1, .joins = r->a };
	if (r->type == REQ_EXEC) {
		c.columns = r->a;
		c.rows = r->b;
	}
	int report[2], in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, result = 0;
	void *map = NULL;
	size_t size = 0;
	struct proc *target = NULL, *p;
	if (r->type != REQ_EXEC && proc_find(r->id))
		return EEXIST;
	if (r->target[0] && !(target = proc_find(r->target)))
		return ESRCH;
	if (!(p = calloc(1, sizeof *p)))
		return ENOMEM;
	memcpy(p->id, r->id, sizeof p->id);
	p->type = r->type == REQ_EXEC ? EXEC : r->type == REQ_PAUSE ? PAUSE : CONTAINER;
	p->flags = r->flags;
	p->report.fd = p->stream[0].fd = p->stream[1].fd = -1;
	p->log[0].name = "stdout";
	p->log[1].name = "stderr";
	p->log_fd = fds_keep(fds, r->log);
	p->dir_fd = fds_keep(fds, r->dir);
	p->oom_fd = fds_keep(fds, r->oom);
	p->oom_before = oom_kills(p->oom_fd);
	p->stdin_fd = -1;
	p->next = shim_procs;
	shim_procs = p;

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
	source_watch(&p->report, REPORT, report[0], p, EPOLLIN);
	c.report = report[1];
	if (p->type == EXEC) {
		c.in = at(fds, r->in) < 0 ? 0 : at(fds, r->in);
		c.out = at(fds, r->out) < 0 ? 1 : at(fds, r->out);
		c.err = at(fds, r->err) < 0 ? 2 : at(fds, r->err);
	} else if (p->type == CONTAINER && !(r->flags & FLAG_TTY)) {
		if (pipe2(out, O_CLOEXEC) < 0)
			goto fail;
		fcntl(out[0], F_SETFL, O_NONBLOCK);
		source_watch(&p->stream[0], STREAM, out[0], p, EPOLLIN);
		if (pipe2(err, O_CLOEXEC) < 0)
			goto fail;
		fcntl(err[0], F_SETFL, O_NONBLOCK);
		source_watch(&p->stream[1], STREAM, err[0], p, EPOLLIN);
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
		setns(shim_pidns, CLONE_NEWPID);
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
	shim_close(&c.report);
	shim_close(&out[1]);
	shim_close(&err[1]);
	shim_close(&in[0]);
	if (result)
		proc_free(p);
	return result;
}
