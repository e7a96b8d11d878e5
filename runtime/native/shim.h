// What the parts of the shim share: shim.c (start and main loop), process.c
// (life of a child), client.c (connections and attached clients).
#ifndef SAGONG_SHIM_H
#define SAGONG_SHIM_H

#include "native.h"

// As in shim.go: descriptors at the start, requests, replies.
enum { BOOT_FD = 3, LISTEN_FD, READY_FD, EVENTS_DIR_FD, LEAN_FD, FIRST_JOIN_FD };
enum { BOOT_NET = 1, BOOT_IPC = 2, BOOT_UTS = 4 };
enum { REQ_START = 1, REQ_EXEC, REQ_PAUSE, REQ_SIGNAL, REQ_RESIZE, REQ_REOPEN, REQ_ATTACH, REQ_SHUTDOWN, REQ_STDIN_END };
enum { REPLY_OK = 1, REPLY_ERROR, REPLY_STARTED, REPLY_TTY, REPLY_EXIT };
enum { FLAG_TTY = 1, FLAG_STDIN = 2, FLAG_STDIN_ONCE = 4 };

enum { ID_SIZE = 136, CHUNK = 65536 };

struct request {
	uint32_t type, flags, clone_flags;
	int32_t plan, dir, log, oom, cgroup, in, out, err;  // indices of descriptors, or -1
	int32_t a, b;                                       // signal; width and height
	char id[ID_SIZE], target[ID_SIZE];
};

struct reply {
	uint32_t type;
	int32_t status;
	int64_t a, b;
	char text[4096];
};

enum kind { LISTEN, SIGNALS, CONN, REPORT, STREAM, DRAIN };

// What an event of epoll is about.
struct source {
	enum kind kind;
	int fd;
	void *owner;
};

// A connection of the server: one request and, for exec and attach, its life.
struct conn {
	struct conn *next;
	struct source src;
	struct proc *proc;       // waits for its start or is its exec
	struct proc *attached;   // gets its output
	struct source out[2];    // attached client's stdout and stderr
	char *pending[2];        // output it has not taken yet
	size_t off[2], len[2];
	int stdin_once, ended, shutdown;
	struct reply last;       // sent when ended and nothing is pending
};

// A child: container, exec or pause.
struct proc {
	struct proc *next;
	char id[ID_SIZE];
	enum { CONTAINER, EXEC, PAUSE } type;
	pid_t pid;
	uint32_t flags;
	struct conn *conn;       // who wants to know of start (and end, of an exec)
	struct source report;    // open until the child executes
	struct source stream[2]; // stdout and stderr, or the terminal and nothing
	struct logstream log[2];
	int log_fd, dir_fd, oom_fd, stdin_fd;
	uint64_t oom_before;
	int blocked;             // attached clients that are behind
	int64_t started;
};

// An end not yet told to the server.
struct notice {
	struct notice *next;
	char text[2 * ID_SIZE + 8];
};

extern int shim_epoll, shim_pidns, shim_ending;
extern struct conn *shim_conns;
extern struct proc *shim_procs;
extern char shim_chunk[CHUNK];

// shim.c
void source_watch(struct source *s, enum kind kind, int fd, void *owner, uint32_t events);
void source_rewatch(struct source *s, uint32_t events);
void source_drop(struct source *s);
void shim_close(int *fd);
struct proc *proc_find(const char *id);
void notice_add(const char *id);

// process.c
int proc_start(struct conn *conn, struct request *r, struct fds *fds);
int fds_keep(const struct fds *fds, int32_t i);
void proc_reap(void);
void proc_report_ready(struct source *s);
void proc_stream_ready(struct source *s);

// client.c
void conn_accept(int fd);
void conn_ready(struct source *s);
void conn_answer(struct conn *c, uint32_t type, int status, int64_t a, int64_t b, const char *text, int fd);
void client_output(struct proc *p, int i, const char *data, size_t len);
void client_drain(struct source *s);
void client_end(struct proc *p, int code, int sig);

#endif
