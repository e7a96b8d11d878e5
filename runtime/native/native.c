// Entry and shared pieces of the C side. See native.h.
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// The Go runtime has not started. musl gives constructors no arguments, so the
// marker is a variable of the environment, which only shim.go sets.
__attribute__((constructor)) static void personality(void)
{
	const char *p = getenv("_SAGONG_PERSONALITY");
	if (p == NULL)
		return;
	if (strcmp(p, "shim") == 0)
		shim_main();
	fprintf(stderr, "sagong: no personality \"%s\"\n", p);
	_exit(125);
}

static const void *take(struct plan *p, size_t n)
{
	if (p->bad || (size_t)(p->end - p->at) < n) {
		p->bad = 1;
		return NULL;
	}
	const void *at = p->at;
	p->at += n;
	return at;
}

uint32_t plan_u32(struct plan *p)
{
	uint32_t v = 0;
	const void *at = take(p, sizeof v);
	if (at)
		memcpy(&v, at, sizeof v);
	return v;
}

uint64_t plan_u64(struct plan *p)
{
	uint64_t v = 0;
	const void *at = take(p, sizeof v);
	if (at)
		memcpy(&v, at, sizeof v);
	return v;
}

const void *plan_blob(struct plan *p, uint32_t *len)
{
	*len = plan_u32(p);
	const void *at = take(p, *len);
	if (!at)
		*len = 0;
	return at;
}

const char *plan_str(struct plan *p)
{
	uint32_t n;
	const char *s = plan_blob(p, &n);
	if (!s || n == 0 || s[n - 1] != '\0') {
		p->bad = 1;
		return "";
	}
	return s;
}

int send_fd(int sock, const void *data, size_t len, int fd, int flags)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (fd >= 0) {
		m.msg_control = c.space;
		m.msg_controllen = sizeof c.space;
		c.h.cmsg_level = SOL_SOCKET;
		c.h.cmsg_type = SCM_RIGHTS;
		c.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&c.h), &fd, sizeof fd);
	}
	ssize_t n;
	do
		n = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -1;
}

ssize_t recv_fds(int sock, void *data, size_t len, struct fds *fds)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} c;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = c.space, .msg_controllen = sizeof c.space };
	ssize_t n;
	fds->n = 0;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		fds->n = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds->fd, CMSG_DATA(h), (size_t)fds->n * sizeof(int));
	}
	return n;
}

int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
