// The web server: one thread, one epoll, no work while nobody asks.
#include "hello.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_CONNS = 1024,
	HEAD_MS = 10000,  // a request must be whole this long after its first byte
	IDLE_MS = 75000,  // between requests
	WRITE_MS = 30000, // without progress
	MAX_SLEEP_MS = 60000,
	QUIET_MS = 250,   // after SIGTERM: this long without a request, and all is done
	DRAIN_MS = 10000, // after SIGTERM: no longer than this in any case
};

struct conn {
	int fd;
	uint32_t events;    // asked of epoll
	char *in;           // MAX_HEAD bytes, while there is something in it
	size_t in_len;
	struct text out;
	size_t out_sent;
	long body;          // bytes of a request's body still to be skipped
	bool answering;     // a request was read and its answer is not yet sent
	bool closing;       // after the answer, close
	bool ended;         // the peer will send no more
	bool lingering;     // an answer to a refused request was sent; read what still comes
	int64_t wake;       // answer no sooner than this
	int64_t deadline;   // close after this
	char peer[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN];
	// The request that is being answered, for the log.
	int status;
	int exit_code; // after this answer, or -1
	int64_t began;
	char what[256];
};

static struct server {
	int epoll, listener, signals;
	struct conn *conns[MAX_CONNS];
	int count, limit;
	bool accepting, log;
	bool draining;
	int64_t drain_end, quiet_end;
	int64_t next_timer;
} sv;

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void timer(int64_t at)
{
	if (at < sv.next_timer)
		sv.next_timer = at;
}

static void deadline(struct conn *c, int64_t at)
{
	c->deadline = at;
	timer(at);
}

static void watch_listener(bool on)
{
	if (sv.listener < 0 || on == sv.accepting)
		return;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &sv.listener};
	epoll_ctl(sv.epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, sv.listener, &e);
	sv.accepting = on;
}

static void drop(struct conn *c)
{
	close(c->fd);
	hello_text_free(&c->out);
	free(c->in);
	for (int i = 0; i < sv.count; i++)
		if (sv.conns[i] == c) {
			sv.conns[i] = sv.conns[--sv.count];
			break;
		}
	free(c);
	watch_listener(true);
}

static void want(struct conn *c, uint32_t events)
{
	if (c->events == events)
		return;
	struct epoll_event e = {.events = events, .data.ptr = c};
	epoll_ctl(sv.epoll, EPOLL_CTL_MOD, c->fd, &e);
	c->events = events;
}

// Makes room for a connection by closing the one that has been idle longest.
static bool evict(void)
{
	struct conn *oldest = NULL;
	for (int i = 0; i < sv.count; i++) {
		struct conn *c = sv.conns[i];
		if (!c->answering && !c->in_len && !c->body && (!oldest || c->deadline < oldest->deadline))
			oldest = c;
	}
	if (!oldest)
		return false;
	// drop() in the middle of a batch of events would leave a dangling
	// pointer in it; shut down, the connection reports itself.
	shutdown(oldest->fd, SHUT_RDWR);
	return true;
}

static void accept_all(int64_t now)
{
	for (;;) {
		if (sv.count >= sv.limit) {
			evict();
			watch_listener(false);
			return;
		}
		struct sockaddr_in6 peer = {0}, local = {0};
		socklen_t peer_len = sizeof peer, local_len = sizeof local;
		int fd = accept4(sv.listener, (struct sockaddr *)&peer, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
				watch_listener(sv.count == 0); // until a connection ends
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			return;
		}
		struct conn *c = calloc(1, sizeof *c);
		if (!c) {
			close(fd);
			return;
		}
		c->fd = fd;
		c->exit_code = -1;
		c->events = EPOLLIN | EPOLLRDHUP;
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		getsockname(fd, (struct sockaddr *)&local, &local_len);
		hello_address(&peer, c->peer);
		hello_address(&local, c->local);
		struct epoll_event e = {.events = c->events, .data.ptr = c};
		if (epoll_ctl(sv.epoll, EPOLL_CTL_ADD, fd, &e)) {
			close(fd);
			free(c);
			return;
		}
		sv.conns[sv.count++] = c;
		deadline(c, now + HEAD_MS);
		sv.quiet_end = now + QUIET_MS;
	}
}

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 411: return "Length Required";
	case 413: return "Content Too Large";
	case 417: return "Expectation Failed";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	}
	return "Error";
}

// Puts an answer into c->out.
static void answer(struct conn *c, int status, const char *type, const char *data, size_t len, bool head, const char *more)
{
	hello_text_fmt(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: %s\r\n%s\r\n",
		 status, reason(status), type, len, c->closing ? "close" : "keep-alive", more);
	if (!head)
		hello_text_add(&c->out, data, len);
	c->status = status;
	c->answering = true;
}

static void refuse(struct conn *c, int status)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%d %s\n", status, reason(status));
	c->closing = c->lingering = true;
	snprintf(c->what, sizeof c->what, "-");
	answer(c, status, "text/plain", line, (size_t)n, false, "");
}

static void write_all(int fd, const char *s, size_t n)
{
	while (n) {
		ssize_t done = write(fd, s, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		s += done;
		n -= (size_t)done;
	}
}

// Answers one request whose head and body were read.
static void respond(struct conn *c, const struct request *r, int64_t now)
{
	bool head = r->method_len == 4 && !memcmp(r->method, "HEAD", 4);
	bool get = r->method_len == 3 && !memcmp(r->method, "GET", 3);
	bool post = r->method_len == 4 && !memcmp(r->method, "POST", 4);
	c->closing = !r->keep_alive || sv.draining;
	c->began = now;
	snprintf(c->what, sizeof c->what, "%.*s %.*s", (int)(r->method_len > 16 ? 16 : r->method_len), r->method,
		 (int)(r->path_len > 200 ? 200 : r->path_len), r->path);
	if (!head && !get && !post) {
		answer(c, 405, "text/plain", "405 only GET, HEAD and POST\n", 28, false, "Allow: GET, HEAD, POST\r\n");
	} else if (hello_request_at(r, "/healthz")) {
		answer(c, 200, "text/plain", "ok\n", 3, head, "");
	} else if (hello_request_at(r, "/readyz")) {
		if (sv.draining)
			answer(c, 503, "text/plain", "stopping\n", 9, head, "");
		else if (access("/tmp/unready", F_OK) == 0)
			answer(c, 503, "text/plain", "/tmp/unready exists\n", 20, head, "");
		else
			answer(c, 200, "text/plain", "ok\n", 3, head, "");
	} else if (hello_request_at(r, "/log")) {
		char line[4096];
		long n = hello_request_param(r, "line", line, sizeof line - 1);
		if (n < 0)
			n = 0;
		line[n] = '\n';
		write_all(STDOUT_FILENO, line, (size_t)n + 1);
		answer(c, 200, "text/plain", "ok\n", 3, head, "");
	} else if (hello_request_at(r, "/exit")) {
		c->exit_code = (int)hello_request_number(r, "code", 0, 255, 0);
		c->closing = true;
		answer(c, 200, "text/plain", "bye\n", 4, head, "");
	} else {
		if (hello_request_at(r, "/sleep")) {
			c->wake = now + hello_request_number(r, "ms", 0, MAX_SLEEP_MS, 1000);
			timer(c->wake);
		}
		struct text body = {0};
		hello_page_write(&body, &(struct page){.request = r, .local = c->local, .peer = c->peer});
		if (body.failed)
			answer(c, 500, "text/plain", "too much to show\n", 17, head, "");
		else
			answer(c, 200, r->json ? "application/json" : "text/plain; charset=utf-8", body.data, body.len, head, "Cache-Control: no-store\r\n");
		hello_text_free(&body);
	}
}

// Writes what is to be written. Returns false when the connection is gone.
static bool flush(struct conn *c, int64_t now)
{
	if (c->wake > now) {
		want(c, EPOLLRDHUP);
		deadline(c, c->wake + WRITE_MS);
		return true;
	}
	while (c->out_sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			want(c, EPOLLOUT);
			return true;
		}
		if (n < 0) {
			drop(c);
			return false;
		}
		c->out_sent += (size_t)n;
		deadline(c, now + WRITE_MS);
	}
	bool failed = c->out.failed;
	hello_text_free(&c->out);
	c->out_sent = 0;
	if (!c->answering)
		return true; // only "100 Continue" so far
	c->answering = false;
	c->wake = 0;
	sv.quiet_end = now + QUIET_MS;
	if (sv.log) {
		char line[400];
		int n = snprintf(line, sizeof line, "%s %s %d %lldms\n", c->peer, c->what, c->status, (long long)(now - c->began));
		write_all(STDOUT_FILENO, line, (size_t)n);
	}
	if (c->exit_code >= 0)
		_exit(c->exit_code);
	if (failed || (c->closing && (!c->lingering || c->ended))) {
		drop(c);
		return false;
	}
	if (c->closing) {
		// Data that is not read turns the close into a reset, and the peer
		// may lose the answer: read on for a moment.
		shutdown(c->fd, SHUT_WR);
		deadline(c, now + 1000);
		c->in_len = 0;
	} else {
		deadline(c, now + (c->in_len ? HEAD_MS : IDLE_MS));
	}
	want(c, EPOLLIN | EPOLLRDHUP);
	return true;
}

// Goes through the requests that were read. Returns false when the connection
// is gone.
static bool process(struct conn *c, int64_t now)
{
	while (!c->answering && !c->lingering && c->in_len) {
		struct request r;
		long used = hello_request_parse(c->in, c->in_len, &r);
		if (used == 0)
			break;
		if (used < 0) {
			c->began = now;
			refuse(c, (int)-used);
			return flush(c, now);
		}
		// Only the first part of a body may be in the buffer with the head.
		// The answer does not depend on it, so it is made now and sent when
		// the body has been skipped.
		size_t here = c->in_len - (size_t)used;
		long rest = r.body - (long)here;
		if (rest > 0 && r.expect_continue && !here)
			hello_text_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
		if (rest > 0) {
			if (c->out.len && !flush(c, now))
				return false;
			respond(c, &r, now);
			c->in_len = 0;
			c->body = rest;
			return true;
		}
		respond(c, &r, now);
		used += r.body;
		c->in_len -= (size_t)used;
		memmove(c->in, c->in + used, c->in_len);
		if (!flush(c, now))
			return false;
	}
	if (!c->in_len) {
		free(c->in);
		c->in = NULL;
	}
	return true;
}

// Reads what came. Returns false when the connection is gone.
static bool receive(struct conn *c, int64_t now)
{
	while (!c->answering || c->body || c->lingering) {
		char skip[16 << 10];
		char *to = skip;
		size_t room = sizeof skip;
		if (!c->body && !c->lingering) {
			if (!c->in && !(c->in = malloc(MAX_HEAD))) {
				drop(c);
				return false;
			}
			to = c->in + c->in_len;
			room = MAX_HEAD - c->in_len;
		} else if (c->body && (size_t)c->body < room) {
			room = (size_t)c->body;
		}
		ssize_t n = recv(c->fd, to, room, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			// A peer may half-close after its request and still read.
			c->ended = true;
			if (n < 0 || !c->answering || c->body || c->lingering) {
				drop(c);
				return false;
			}
			break;
		}
		if (c->lingering)
			continue;
		if (c->body) {
			c->body -= n;
			if (!c->body && (!flush(c, now) || !process(c, now)))
				return false;
			continue;
		}
		if (!c->in_len)
			deadline(c, now + HEAD_MS);
		c->in_len += (size_t)n;
		sv.quiet_end = now + QUIET_MS;
		if (!process(c, now))
			return false;
	}
	if (c->in && !c->in_len && !c->answering) {
		free(c->in);
		c->in = NULL;
	}
	return true;
}

static void event(struct conn *c, uint32_t events, int64_t now)
{
	if (events & (EPOLLERR | EPOLLHUP)) {
		drop(c);
		return;
	}
	if (c->answering && !c->body) {
		if (events & EPOLLRDHUP && c->wake > now) {
			want(c, 0); // it waits for a late answer; do not spin on this
			c->ended = true;
		}
		if (!(events & EPOLLOUT) || !flush(c, now))
			return;
		if (c->answering || !process(c, now))
			return;
	}
	receive(c, now);
}

// Closes what is too late and sends what was delayed.
static void timers(int64_t now)
{
	if (now < sv.next_timer)
		return;
	sv.next_timer = INT64_MAX;
	for (int i = sv.count - 1; i >= 0; i--) {
		struct conn *c = sv.conns[i];
		if (c->wake && c->wake <= now) {
			c->wake = 0;
			timer(c->deadline);
			if (c->body == 0 && flush(c, now) && !c->answering && process(c, now))
				receive(c, now);
			i = i < sv.count ? i : sv.count; // the table has moved
			continue;
		}
		if (c->deadline <= now) {
			if (c->in_len && !c->answering && !c->lingering) {
				c->began = now;
				refuse(c, 408);
				flush(c, now);
			} else {
				drop(c);
			}
			i = i < sv.count ? i : sv.count;
			continue;
		}
		timer(c->deadline);
		if (c->wake)
			timer(c->wake);
	}
}

// Whether, after SIGTERM, nothing is left to do.
static bool finished(int64_t now)
{
	if (now >= sv.drain_end)
		return true;
	if (now < sv.quiet_end) {
		timer(sv.quiet_end);
		return false;
	}
	for (int i = 0; i < sv.count; i++)
		if (sv.conns[i]->answering || sv.conns[i]->in_len || sv.conns[i]->body) {
			timer(sv.drain_end);
			return false;
		}
	return true;
}

static void signalled(int64_t now)
{
	struct signalfd_siginfo si;
	while (read(sv.signals, &si, sizeof si) == sizeof si) {
		if (sv.draining)
			_exit(0); // asked twice
		// Whoever sends requests here may not have heard yet: go on accepting
		// until it is quiet, and have every connection closed by its answer.
		sv.draining = true;
		sv.drain_end = now + DRAIN_MS;
		sv.quiet_end = now + QUIET_MS;
		timer(sv.quiet_end);
		static const char line[] = "hello: stopping\n";
		write_all(STDOUT_FILENO, line, sizeof line - 1);
	}
}

static int fail(const char *what)
{
	fprintf(stderr, "hello: cannot %s: %s\n", what, strerror(errno));
	return 1;
}

static bool parse_port(const char *s, int *port)
{
	char *end;
	long n = strtol(s, &end, 10);
	*port = (int)n;
	return *s && !*end && n >= 0 && n <= 65535;
}

int hello_serve(int argc, char **argv)
{
	const char *port_text = getenv("PORT");
	int port = 8080;
	sv.log = getenv("HELLO_ACCESS_LOG") && *getenv("HELLO_ACCESS_LOG") && strcmp(getenv("HELLO_ACCESS_LOG"), "0");
	for (int i = 1; i < argc; i++) {
		if ((!strcmp(argv[i], "-port") || !strcmp(argv[i], "--port")) && i + 1 < argc) {
			port_text = argv[++i];
		} else {
			fprintf(stderr, "hello: unknown option %s; try: hello help\n", argv[i]);
			return 2;
		}
	}
	if (port_text && *port_text && !parse_port(port_text, &port)) {
		fprintf(stderr, "hello: \"%s\" is not a port\n", port_text);
		return 2;
	}
	sv.next_timer = INT64_MAX;
	struct rlimit files;
	sv.limit = MAX_CONNS;
	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur < MAX_CONNS + 16)
		sv.limit = files.rlim_cur > 32 ? (int)files.rlim_cur - 16 : 16;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	sv.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	sv.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (sv.signals < 0 || sv.epoll < 0)
		return fail("wait for events");
	sv.listener = hello_listen(port);
	if (sv.listener < 0) {
		char what[64];
		snprintf(what, sizeof what, "listen on port %d", port);
		return fail(what);
	}
	struct sockaddr_in6 bound = {0};
	socklen_t bound_len = sizeof bound;
	if (!getsockname(sv.listener, (struct sockaddr *)&bound, &bound_len))
		port = ntohs(bound.sin6_port); // at the same place for IPv4
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &sv.signals};
	epoll_ctl(sv.epoll, EPOLL_CTL_ADD, sv.signals, &e);
	watch_listener(true);
	char line[100];
	int n = snprintf(line, sizeof line, "hello %.20s: listening on port %d\n", hello_version(), port);
	write_all(STDOUT_FILENO, line, (size_t)n);

	for (;;) {
		int64_t now = now_ms();
		int wait = -1;
		if (sv.next_timer != INT64_MAX)
			wait = sv.next_timer <= now ? 0 : sv.next_timer - now > INT_MAX ? INT_MAX : (int)(sv.next_timer - now);
		struct epoll_event events[64];
		int got = epoll_wait(sv.epoll, events, 64, wait);
		if (got < 0 && errno != EINTR)
			return fail("wait for events");
		now = now_ms();
		bool knock = false;
		for (int i = 0; i < got; i++) {
			if (events[i].data.ptr == &sv.listener)
				knock = true; // last, so that no new connection gets the place of one in this batch
			else if (events[i].data.ptr == &sv.signals)
				signalled(now);
			else
				event(events[i].data.ptr, events[i].events, now);
		}
		if (knock)
			accept_all(now);
		timers(now);
		if (sv.draining && finished(now)) {
			// One last look at the queue: who is in it gets an answer.
			int before = sv.count;
			if (now < sv.drain_end && sv.accepting)
				accept_all(now);
			if (sv.count == before)
				return 0;
		}
	}
}
