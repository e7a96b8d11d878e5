// Parsing of HTTP/1 request heads (RFC 9112), strict: what is not allowed is
// refused, for leniency is how requests are smuggled.
#include "hello.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is(const char *s, size_t n, const char *word) { return n == strlen(word) && !strncasecmp(s, word, n); }

// Whether a comma-separated list holds a word, parameters ignored.
static bool lists(const char *s, size_t n, const char *word)
{
	const char *end = s + n;
	while (s < end) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		const char *stop = comma ? comma : end;
		while (s < stop && (*s == ' ' || *s == '\t'))
			s++;
		const char *last = s;
		while (last < stop && *last != ';')
			last++;
		while (last > s && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		if (is(s, (size_t)(last - s), word))
			return true;
		s = comma ? comma + 1 : end;
	}
	return false;
}

// The request line, without its CRLF. Returns 0 or minus a status.
static long parse_line(const char *s, size_t n, struct request *r, int *minor)
{
	const char *end = s + n, *p = s;
	while (p < end && token_char((unsigned char)*p))
		p++;
	if (p == s || p == end || *p != ' ')
		return -400;
	r->method = s;
	r->method_len = (size_t)(p - s);
	const char *target = ++p;
	while (p < end && (unsigned char)*p > 0x20 && *p != 0x7f)
		p++;
	if (p == target || p == end || *p != ' ')
		return -400;
	const char *stop = p++;
	if (end - p != 8 || memcmp(p, "HTTP/", 5) || p[6] != '.' || p[5] < '0' || p[5] > '9' || p[7] < '0' || p[7] > '9')
		return -400;
	if (p[5] != '1')
		return -505;
	*minor = p[7] - '0';
	if (*target != '/') {
		// The absolute form, which proxies use, and "*" for OPTIONS.
		if ((stop - target) > 7 && !strncasecmp(target, "http://", 7)) {
			target = memchr(target + 7, '/', (size_t)(stop - target - 7));
			if (!target) {
				r->path = "/";
				r->path_len = 1;
				return 0;
			}
		} else if (stop - target != 1 || *target != '*') {
			return -400;
		}
	}
	const char *query = memchr(target, '?', (size_t)(stop - target));
	r->path = target;
	r->path_len = (size_t)((query ? query : stop) - target);
	if (query) {
		r->query = query + 1;
		r->query_len = (size_t)(stop - query - 1);
	}
	return 0;
}

// A header field, without its CRLF.
struct seen {
	int fields, hosts;
	bool length, encoding;
};

static long parse_field(const char *s, size_t n, struct request *r, struct seen *seen)
{
	const char *end = s + n, *p = s;
	if (++seen->fields > MAX_FIELDS)
		return -431;
	while (p < end && token_char((unsigned char)*p))
		p++;
	if (p == s || p == end || *p != ':')
		return -400;
	size_t name = (size_t)(p - s);
	p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (const char *c = p; c < end; c++)
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return -400;
	size_t len = (size_t)(end - p);
	if (is(s, name, "host")) {
		seen->hosts++;
	} else if (is(s, name, "content-length")) {
		long value = 0;
		if (!len)
			return -400;
		for (size_t i = 0; i < len; i++) {
			if (p[i] < '0' || p[i] > '9')
				return -400;
			if (value <= MAX_BODY)
				value = value * 10 + (p[i] - '0');
		}
		if (seen->length && value != r->body)
			return -400;
		seen->length = true;
		r->body = value;
	} else if (is(s, name, "transfer-encoding")) {
		seen->encoding = true;
	} else if (is(s, name, "connection")) {
		if (lists(p, len, "close"))
			r->keep_alive = false;
		else if (lists(p, len, "keep-alive"))
			r->keep_alive = true;
	} else if (is(s, name, "accept")) {
		r->json = r->json || lists(p, len, "application/json");
	} else if (is(s, name, "expect")) {
		if (!is(p, len, "100-continue"))
			return -417;
		r->expect_continue = true;
	}
	return 0;
}

long hello_request_parse(const char *data, size_t len, struct request *r)
{
	*r = (struct request){0};
	struct seen seen = {0};
	int minor = 1;
	size_t at = 0;
	bool first = true;
	// An empty line before a request is allowed (RFC 9112, 2.2).
	while (at + 1 < len && at < 8 && data[at] == '\r' && data[at + 1] == '\n')
		at += 2;
	for (;;) {
		const char *line = data + at;
		size_t bound = len < MAX_HEAD ? len : MAX_HEAD;
		const char *nl = at < bound ? memchr(line, '\n', bound - at) : NULL;
		if (!nl)
			return len >= MAX_HEAD ? -431 : 0;
		if (nl == line || nl[-1] != '\r')
			return -400;
		size_t n = (size_t)(nl - line) - 1;
		at += n + 2;
		if (first) {
			long e = parse_line(line, n, r, &minor);
			if (e)
				return e;
			r->keep_alive = minor >= 1;
			first = false;
			continue;
		}
		if (n == 0)
			break;
		long e = parse_field(line, n, r, &seen);
		if (e)
			return e;
	}
	if (seen.hosts > 1 || (minor >= 1 && seen.hosts != 1))
		return -400;
	if (seen.encoding)
		return seen.length ? -400 : -411;
	if (r->body > MAX_BODY)
		return -413;
	return (long)at;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

long hello_request_param(const struct request *r, const char *name, char *out, size_t cap)
{
	const char *p = r->query, *end = p ? p + r->query_len : NULL;
	size_t want = strlen(name);
	while (p && p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p)), *stop = amp ? amp : end;
		const char *eq = memchr(p, '=', (size_t)(stop - p));
		if (eq && (size_t)(eq - p) == want && !memcmp(p, name, want)) {
			size_t n = 0;
			for (p = eq + 1; p < stop && n + 1 < cap; p++) {
				if (*p == '%' && stop - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
					out[n++] = (char)(hex(p[1]) << 4 | hex(p[2]));
					p += 2;
				} else {
					out[n++] = *p == '+' ? ' ' : *p;
				}
			}
			out[n] = 0;
			return (long)n;
		}
		p = amp ? amp + 1 : end;
	}
	return -1;
}

long hello_request_number(const struct request *r, const char *name, long low, long high, long other)
{
	char v[32], *end;
	if (hello_request_param(r, name, v, sizeof v) <= 0)
		return other;
	long n = strtol(v, &end, 10);
	return *end ? other : n < low ? low : n > high ? high : n;
}

bool hello_request_at(const struct request *r, const char *path) { return r->path_len == strlen(path) && !memcmp(r->path, path, r->path_len); }
