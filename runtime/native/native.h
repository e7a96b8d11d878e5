// The C side of the native runtime. It runs before the Go runtime starts, in
// one thread, and carries out what Go has decided (plan.go).
#ifndef SAGONG_NATIVE_H
#define SAGONG_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

// A cursor over bytes written by plan.go. A read beyond the end sets bad and
// returns zero, so that callers check once.
struct plan {
	const unsigned char *at, *end;
	int bad;
};

uint32_t plan_u32(struct plan *p);
uint64_t plan_u64(struct plan *p);
const char *plan_str(struct plan *p);  // NUL-terminated, inside the plan
const void *plan_blob(struct plan *p, uint32_t *len);

// Descriptors that came with a plan; the plan names them by index.
struct fds {
	int n;
	int fd[256];
};

// What a child of the shim gets: the plan and the ends of its streams.
struct child {
	struct plan plan;
	struct fds *fds;
	int in, out, err;  // become 0, 1, 2; -1 on a terminal
	int report;        // socket to the shim: a terminal, an error, or EOF on exec
	int joins;         // of a pause: how many fds are cgroup files to join by
	int columns, rows; // of an exec's terminal; 0 when not known yet
};

// Carries out the plan of a container or an exec; never returns.
_Noreturn void child_run(struct child *c);
// The first process of a shared PID namespace, which only reaps. Never returns.
_Noreturn void pause_run(struct child *c);

// Messages of a child on its report socket begin with one of these.
enum { REPORT_ERROR = 'E', REPORT_TTY = 'T' };

// The shim; never returns.
_Noreturn void shim_main(void);

// Sends bytes with at most one descriptor (fd < 0: none). Returns 0 or -1.
int send_fd(int sock, const void *data, size_t len, int fd, int flags);
// Receives bytes with descriptors. Returns the number of bytes, or -1.
ssize_t recv_fds(int sock, void *data, size_t len, struct fds *fds);
// Writes all bytes; returns 0 or -1.
int write_all(int fd, const void *data, size_t len);

// One output stream of a container on its way into the log.
struct logstream {
	const char *name;   // "stdout" or "stderr"
	char *part;         // an unfinished line, or NULL
	size_t len;
};

enum { LOG_LINE_MAX = 16384 };

// Appends data to the log in the CRI format. fd < 0 discards.
void log_data(struct logstream *s, int fd, const char *data, size_t len);
// Writes what is left of an unfinished line and frees it.
void log_end(struct logstream *s, int fd);

#endif
