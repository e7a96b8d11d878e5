// A growable buffer for answers.
#include "hello.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 4 << 20 };

void hello_text_add(struct text *t, const char *s, size_t n)
{
	if (t->failed)
		return;
	if (t->cap - t->len < n) {
		size_t cap = t->cap ? t->cap : 1024;
		while (cap - t->len < n && cap <= MAX_TEXT)
			cap *= 2;
		char *grown = cap <= MAX_TEXT ? realloc(t->data, cap) : NULL;
		if (!grown) {
			t->failed = true;
			return;
		}
		t->data = grown;
		t->cap = cap;
	}
	memcpy(t->data + t->len, s, n);
	t->len += n;
}

void hello_text_str(struct text *t, const char *s) { hello_text_add(t, s, strlen(s)); }

void hello_text_fmt(struct text *t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		t->failed = true;
	else
		hello_text_add(t, line, (size_t)n);
}

// The length of the well-formed UTF-8 sequence at s, or 0.
static size_t utf8(const unsigned char *s, size_t n)
{
	if (s[0] < 0x80)
		return 1;
	size_t len = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
	if (!len || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

void hello_text_json(struct text *t, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;
	hello_text_add(t, "\"", 1);
	while (p < end) {
		size_t len = utf8(p, (size_t)(end - p));
		if (!len) {
			hello_text_str(t, "\\ufffd");
			p++;
			continue;
		}
		if (len > 1)
			hello_text_add(t, (const char *)p, len);
		else if (*p == '"' || *p == '\\')
			hello_text_fmt(t, "\\%c", *p);
		else if (*p == '\n')
			hello_text_str(t, "\\n");
		else if (*p == '\t')
			hello_text_str(t, "\\t");
		else if (*p < 0x20 || *p == 0x7f)
			hello_text_fmt(t, "\\u%04x", *p);
		else
			hello_text_add(t, (const char *)p, 1);
		p += len;
	}
	hello_text_add(t, "\"", 1);
}

void hello_text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}
