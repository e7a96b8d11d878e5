// Sockets and addresses.
#include "hello.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int hello_listen(int port)
{
	int one = 1, zero = 0;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any, .sin6_port = htons((uint16_t)port)};
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
		if (!bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, SOMAXCONN))
			return fd;
		close(fd);
		if (errno == EADDRINUSE || errno == EACCES)
			return -1;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, SOMAXCONN))
		return fd;
	int e = errno;
	close(fd);
	errno = e;
	return -1;
}

void hello_address(const struct sockaddr_in6 *a, char *out)
{
	const void *raw = &a->sin6_addr;
	int family = a->sin6_family;
	if (family == AF_INET) {
		raw = &((const struct sockaddr_in *)a)->sin_addr;
	} else if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
		raw = a->sin6_addr.s6_addr + 12;
		family = AF_INET;
	}
	if (!inet_ntop(family, raw, out, INET6_ADDRSTRLEN))
		out[0] = 0;
}
