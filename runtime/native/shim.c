// The shim: the parent of all containers of a pod. It makes the pod's
// namespaces, clones the containers, pumps their output into logs and to
// attached clients, reaps them, and records how each ended in the file "exit"
// of the container's directory. It outlives the server, which talks to it
// through a socket, one request a connection (protocol.go). This file is its
// start and its main loop.
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
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
#include <unistd.h>

int shim_epoll, shim_pidns, shim_ending;
struct conn *shim_conns;
struct proc *shim_procs;
static struct notice *notices;
static char pod[ID_SIZE];
char shim_chunk[CHUNK];

void source_watch(struct source *s, enum kind kind, int fd, void *owner, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };
	s->kind = kind;
	s->fd = fd;
	s->owner = owner;
	epoll_ctl(shim_epoll, EPOLL_CTL_ADD, fd, &e);
}

void source_rewatch(struct source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };
	if (s->fd >= 0)
		epoll_ctl(shim_epoll, EPOLL_CTL_MOD, s->fd, &e);
}

void source_drop(struct source *s)
{
	if (s->fd < 0)
		return;
	// A child may hold a duplicate, so closing alone would not unregister.
	epoll_ctl(shim_epoll, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
}

void shim_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct proc *proc_find(const char *id)
{
	for (struct proc *p = shim_procs; p; p = p->next)
		if (p->type != EXEC && strcmp(p->id, id) == 0)
			return p;
	return NULL;
}

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

void notice_add(const char *id)
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
	shim_pidns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	// A mount namespace with next to nothing in it: containers are cloned from
	// it, and copying the host's, with its mounts by the ten thousand, is slow.
	if (shim_pidns < 0 || setns(LEAN_FD, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
		boot_failed("enter the mount namespace");
	// Containers that may use keyrings get the pod's and not the server's. One a
	// pod: the quota of keys is small.
	(void)syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL);
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
	shim_epoll = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	int sfd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (shim_epoll < 0 || sfd < 0)
		boot_failed("set up");
	source_watch(&signals, SIGNALS, sfd, NULL, EPOLLIN);
	source_watch(&listener, LISTEN, LISTEN_FD, NULL, EPOLLIN);
	(void)!write(READY_FD, "R", 1);
	close(READY_FD);
	// SIGTERM comes when the machine goes down: the containers get theirs too,
	// and the shim ends when they have. It never ends while one runs.
	while (!(shim_ending && !shim_procs)) {
		struct epoll_event e;
		int n = epoll_wait(shim_epoll, &e, 1, notices ? 20 : -1);
		if (n > 0) {
			struct source *s = e.data.ptr;
			struct signalfd_siginfo si;
			switch (s->kind) {
			case LISTEN:
				conn_accept(s->fd);
				break;
			case SIGNALS:
				while (read(s->fd, &si, sizeof si) == sizeof si)
					if (si.ssi_signo == SIGTERM)
						shim_ending = 1;
				proc_reap();
				break;
			case CONN:
				conn_ready(s);
				break;
			case REPORT:
				proc_report_ready(s);
				break;
			case STREAM:
				proc_stream_ready(s);
				break;
			case DRAIN:
				client_drain(s);
				break;
			}
		}
		send_notices();
	}
	send_notices();
	for (struct conn *c = shim_conns; c; c = c->next)
		if (c->shutdown)
			conn_answer(c, REPLY_OK, 0, 0, 0, NULL, -1);
	_exit(0);
}
