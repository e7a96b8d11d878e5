// The CRI log format: one line of the log for each line of output,
//     2016-10-06T00:17:09.669794202Z stdout F content
// with the tag P instead of F when the line goes on in the next one, because
// it is longer than LOG_LINE_MAX or because the output ended without a newline.
#define _GNU_SOURCE
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUT_SIZE = 128 * 1024, HEADER_MAX = 64 };

static char out[OUT_SIZE];
static size_t out_len;

// A full disk or a vanished file must not stop the container: lines that
// cannot be written are dropped.
static void flush(int fd)
{
	if (fd >= 0 && out_len > 0)
		(void)write_all(fd, out, out_len);
	out_len = 0;
}

static void digits(char *to, long v, int n)
{
	while (n-- > 0) {
		to[n] = (char)('0' + v % 10);
		v /= 10;
	}
}

static void header(const char *stream, char tag)
{
	// Breaking down the seconds is the expensive part and rarely changes.
	static time_t last = -1;
	static char date[20];
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != last) {
		struct tm tm;
		gmtime_r(&now.tv_sec, &tm);
		digits(date, tm.tm_year + 1900, 4);
		date[4] = '-';
		digits(date + 5, tm.tm_mon + 1, 2);
		date[7] = '-';
		digits(date + 8, tm.tm_mday, 2);
		date[10] = 'T';
		digits(date + 11, tm.tm_hour, 2);
		date[13] = ':';
		digits(date + 14, tm.tm_min, 2);
		date[16] = ':';
		digits(date + 17, tm.tm_sec, 2);
		last = now.tv_sec;
	}
	char *p = out + out_len;
	memcpy(p, date, 19);
	p[19] = '.';
	digits(p + 20, now.tv_nsec, 9);
	memcpy(p + 29, "Z ", 2);
	memcpy(p + 31, stream, 6);
	p[37] = ' ';
	p[38] = tag;
	p[39] = ' ';
	out_len += 40;
}

static void line(struct logstream *s, int fd, char tag, const char *data, size_t len)
{
	if (out_len + HEADER_MAX + s->len + len + 1 > OUT_SIZE)
		flush(fd);
	header(s->name, tag);
	if (s->len > 0) {
		memcpy(out + out_len, s->part, s->len);
		out_len += s->len;
		s->len = 0;
	}
	memcpy(out + out_len, data, len);
	out_len += len;
	out[out_len++] = '\n';
}

void log_data(struct logstream *s, int fd, const char *data, size_t len)
{
	if (fd < 0)
		return;
	while (len > 0) {
		const char *nl = memchr(data, '\n', len);
		size_t n = nl ? (size_t)(nl - data) : len;
		while (s->len + n > LOG_LINE_MAX) {
			size_t some = LOG_LINE_MAX - s->len;
			line(s, fd, 'P', data, some);
			data += some;
			len -= some;
			n -= some;
		}
		if (!nl) {
			if (!s->part && !(s->part = malloc(LOG_LINE_MAX))) {
				line(s, fd, 'P', data, n);
			} else {
				memcpy(s->part + s->len, data, n);
				s->len += n;
			}
			break;
		}
		line(s, fd, 'F', data, n);
		data += n + 1;
		len -= n + 1;
	}
	// An idle container keeps no buffer.
	if (s->len == 0) {
		free(s->part);
		s->part = NULL;
	}
	flush(fd);
}

void log_end(struct logstream *s, int fd)
{
	if (s->len > 0 && fd >= 0) {
		line(s, fd, 'P', "", 0);
		flush(fd);
	}
	free(s->part);
	s->part = NULL;
	s->len = 0;
}
