// The parts of the hello program that run before, and instead of, the Go
// runtime. One thread, no locale, no name service, static buffers where the
// size is known.
#ifndef SAGONG_HELLO_H
#define SAGONG_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A growable buffer. After an allocation failure or beyond its bound it is
// `failed` and keeps nothing more.
struct text {
	char *data;
	size_t len, cap;
	bool failed;
};
void hello_text_add(struct text *t, const char *s, size_t n);
void hello_text_str(struct text *t, const char *s);
void hello_text_fmt(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hello_text_json(struct text *t, const char *s, size_t n); // quoted
void hello_text_free(struct text *t);

enum { MAX_HEAD = 16 << 10, MAX_FIELDS = 100, MAX_BODY = 1 << 20 };

// A request head. Pointers lead into the bytes it was parsed from.
struct request {
	const char *method, *path, *query; // path and query as sent
	size_t method_len, path_len, query_len;
	bool keep_alive, json, expect_continue;
	long body; // bytes that follow the head
};

// Parses the head at the beginning of data. Returns the bytes it takes, 0 if
// more are needed, or minus the HTTP status to refuse it with.
long hello_request_parse(const char *data, size_t len, struct request *r);
// Finds a query parameter, decodes it into out (at most cap bytes with the
// final NUL) and returns its length, or -1.
long hello_request_param(const struct request *r, const char *name, char *out, size_t cap);

// A number from the query, brought within bounds, or another if there is none.
long hello_request_number(const struct request *r, const char *name, long low, long high, long other);
// Whether the request is for this path.
bool hello_request_at(const struct request *r, const char *path);

// What a page tells besides the environment and the files.
struct page {
	const struct request *request;
	const char *local, *peer; // addresses of the connection
};
void hello_page_write(struct text *out, const struct page *p);

// A listening socket for both address families, or for IPv4 where the machine
// has no other; -1 with errno set.
int hello_listen(int port);
// The text of an address, INET6_ADDRSTRLEN bytes at most; one of IPv4 that came
// in on an IPv6 socket in its own form.
struct sockaddr_in6;
void hello_address(const struct sockaddr_in6 *a, char *out);

const char *hello_version(void);
int hello_serve(int argc, char **argv);
// Runs a small command such as "sleep"; false if there is none of that name.
bool hello_command(int argc, char **argv, int *status);

#endif
