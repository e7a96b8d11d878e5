// Small commands, so that manifests and tests can do things in a container
// that has no other program.
#include "hello.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fail(const char *what)
{
	fprintf(stderr, "hello: %s: %s\n", what, strerror(errno));
	return 1;
}

static double seconds(const char *s, bool *ok)
{
	char *end;
	double n = strtod(s, &end);
	*ok = *s && (!*end || !strcmp(end, "s")) && n >= 0 && n < 1e9;
	return n;
}

// As the first process of a container, a signal without a handler is ignored,
// so sleeping is waiting for one.
static int wait_signal(double s)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	struct timespec now, end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)s;
	end.tv_nsec += (long)((s - (double)(time_t)s) * 1e9);
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		struct timespec left = {end.tv_sec - now.tv_sec, end.tv_nsec - now.tv_nsec};
		while (left.tv_nsec < 0) {
			left.tv_nsec += 1000000000;
			left.tv_sec--;
		}
		while (left.tv_nsec >= 1000000000) {
			left.tv_nsec -= 1000000000;
			left.tv_sec++;
		}
		if (left.tv_sec < 0)
			return 0;
		int got = sigtimedwait(&set, NULL, &left);
		if (got > 0)
			return 128 + got;
		if (errno == EAGAIN)
			return 0;
	}
}

static int do_sleep(int argc, char **argv)
{
	bool ok = true;
	double s = argc > 0 ? !strcmp(argv[0], "infinity") ? 9e8 : seconds(argv[0], &ok) : -1;
	if (argc != 1 || !ok) {
		fprintf(stderr, "usage: hello sleep SECONDS\n");
		return 2;
	}
	return wait_signal(s);
}

static int do_exit(int argc, char **argv)
{
	return argc > 0 ? atoi(argv[0]) & 255 : 0;
}

static int do_print(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("%s%s", i ? " " : "", argv[i]);
	printf("\n");
	return fflush(stdout) ? fail("stdout") : 0;
}

static int do_env(int argc, char **argv)
{
	for (char **e = environ; argc == 0 && *e; e++)
		printf("%s\n", *e);
	int status = 0;
	for (int i = 0; i < argc; i++) {
		const char *v = getenv(argv[i]);
		if (v)
			printf("%s\n", v);
		else
			status = 1;
	}
	return fflush(stdout) ? fail("stdout") : status;
}

static int copy(int fd, const char *name)
{
	char buf[64 << 10];
	ssize_t n;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(STDOUT_FILENO, buf + done, (size_t)(n - done));
			if (w < 0)
				return fail("stdout");
			done += w;
		}
	return n < 0 ? fail(name) : 0;
}

static int do_cat(int argc, char **argv)
{
	if (argc == 0)
		return copy(STDIN_FILENO, "stdin");
	int status = 0;
	for (int i = 0; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0 || copy(fd, argv[i]))
			status = fd < 0 ? fail(argv[i]) : 1;
		if (fd >= 0)
			close(fd);
	}
	return status;
}

static int put(int argc, char **argv, int flags)
{
	if (argc < 1) {
		fprintf(stderr, "usage: hello write|append FILE WORD...\n");
		return 2;
	}
	int fd = open(argv[0], O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
	if (fd < 0)
		return fail(argv[0]);
	for (int i = 1; i < argc; i++)
		if (dprintf(fd, "%s%s", argv[i], i + 1 < argc ? " " : "\n") < 0)
			return fail(argv[0]);
	return close(fd) ? fail(argv[0]) : 0;
}

static int do_write(int argc, char **argv) { return put(argc, argv, O_TRUNC); }
static int do_append(int argc, char **argv) { return put(argc, argv, O_APPEND); }

// Writes a file of a size, to see the end of a disk.
static int do_fill(int argc, char **argv)
{
	static const char zeros[1 << 20];
	if (argc < 2) {
		fprintf(stderr, "usage: hello fill FILE MIB\n");
		return 2;
	}
	int fd = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail(argv[0]);
	for (unsigned long i = strtoul(argv[1], NULL, 10); i > 0; i--)
		for (size_t done = 0; done < sizeof zeros;) {
			ssize_t n = write(fd, zeros + done, sizeof zeros - done);
			if (n < 0)
				return fail(argv[0]);
			done += (size_t)n;
		}
	return fsync(fd) || close(fd) ? fail(argv[0]) : 0;
}

static int do_touch(int argc, char **argv)
{
	int status = 0;
	for (int i = 0; i < argc; i++) {
		int fd = open(argv[i], O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
		if (fd < 0 || futimens(fd, NULL))
			status = fail(argv[i]);
		if (fd >= 0)
			close(fd);
	}
	return status;
}

static int do_rm(int argc, char **argv)
{
	int status = 0;
	for (int i = 0; i < argc; i++)
		if (remove(argv[i]))
			status = fail(argv[i]);
	return status;
}

static int do_ls(int argc, char **argv)
{
	const char *dir = argc > 0 ? argv[0] : ".";
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);
	if (n < 0)
		return fail(dir);
	for (int i = 0; i < n; i++) {
		struct stat st;
		char path[4096];
		if (!strcmp(list[i]->d_name, ".") || !strcmp(list[i]->d_name, ".."))
			continue;
		int len = snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
		if (len > 0 && (size_t)len < sizeof path && !lstat(path, &st)) {
			static const char kinds[] = "?pc?d?b?-?l?s???";
			printf("%c%04o %5u %5u %10lld %s\n", kinds[st.st_mode >> 12 & 15], st.st_mode & 07777u, st.st_uid, st.st_gid,
			       (long long)st.st_size, list[i]->d_name);
		}
	}
	return fflush(stdout) ? fail("stdout") : 0;
}

static int do_id(int argc, char **argv)
{
	(void)argc, (void)argv;
	gid_t groups[256];
	int n = getgroups(256, groups);
	printf("uid=%u gid=%u groups=", geteuid(), getegid());
	for (int i = 0; i < n; i++)
		printf("%s%u", i ? "," : "", groups[i]);
	printf("\n");
	return 0;
}

// Takes memory and keeps it, to see a limit at work.
static int do_hog(int argc, char **argv)
{
	size_t mib = argc > 0 ? strtoul(argv[0], NULL, 10) : 0;
	for (size_t i = 0; i < mib; i++) {
		char *m = malloc(1 << 20);
		if (!m)
			return fail("memory");
		for (size_t at = 0; at < 1 << 20; at += 4096)
			((volatile char *)m)[at] = 1;
	}
	printf("holding %zu MiB\n", mib);
	fflush(stdout);
	return wait_signal(9e8);
}

// Uses a processor for a while.
static int do_burn(int argc, char **argv)
{
	bool ok = argc > 0;
	double s = ok ? seconds(argv[0], &ok) : 0;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	double end = (double)t.tv_sec + (double)t.tv_nsec / 1e9 + s;
	signal(SIGTERM, _exit);
	while (ok && (double)t.tv_sec + (double)t.tv_nsec / 1e9 < end)
		clock_gettime(CLOCK_MONOTONIC, &t);
	return ok ? 0 : 2;
}

// Prints the size of the terminal, now and whenever it changes, until the
// input ends.
static volatile sig_atomic_t resized = 1;
static void on_resize(int sig) { (void)sig, resized = 1; }

static int do_size(int argc, char **argv)
{
	(void)argc, (void)argv;
	struct sigaction sa = {.sa_handler = on_resize};
	sigaction(SIGWINCH, &sa, NULL);
	// The signal comes only while this waits, so that none is missed.
	sigset_t held, before;
	sigemptyset(&held);
	sigaddset(&held, SIGWINCH);
	sigprocmask(SIG_BLOCK, &held, &before);
	for (;;) {
		if (resized) {
			struct winsize w;
			resized = 0;
			if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w))
				return fail("terminal");
			printf("%u rows, %u columns\n", w.ws_row, w.ws_col);
			fflush(stdout);
		}
		struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
		if (ppoll(&in, 1, NULL, &before) < 0) {
			if (errno != EINTR)
				return fail("terminal");
			continue;
		}
		char buf[256];
		if (read(STDIN_FILENO, buf, sizeof buf) <= 0)
			return 0;
	}
}

static int do_help(int argc, char **argv);

static const struct {
	const char *name, *usage, *what;
	int (*run)(int, char **);
} commands[] = {
	{"append", "append FILE WORD...", "add a line to a file", do_append},
	{"burn", "burn SECONDS", "use a processor", do_burn},
	{"cat", "cat [FILE...]", "print files, or standard input", do_cat},
	{"env", "env [NAME...]", "print the environment, or values of it", do_env},
	{"exit", "exit [CODE]", "end with this code", do_exit},
	{"fill", "fill FILE MIB", "write a file of this size", do_fill},
	{"help", "help", "print this", do_help},
	{"hog", "hog MIB", "take memory and keep it", do_hog},
	{"id", "id", "print user and groups", do_id},
	{"ls", "ls [DIR]", "list a directory", do_ls},
	{"print", "print WORD...", "print words", do_print},
	{"rm", "rm FILE...", "remove files", do_rm},
	{"size", "size", "print the terminal's size, and again when it changes", do_size},
	{"sleep", "sleep SECONDS", "wait, or until SIGTERM", do_sleep},
	{"touch", "touch FILE...", "make files, or set their times", do_touch},
	{"write", "write FILE WORD...", "write a line to a file", do_write},
};

static int do_help(int argc, char **argv)
{
	(void)argc, (void)argv;
	printf("hello [-port N]          serve a page about this pod (port: PORT, or 8080)\n"
	       "hello get URL...         fetch pages; more: hello get -h\n");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		printf("hello %-18s %s\n", commands[i].usage, commands[i].what);
	return fflush(stdout) ? 1 : 0;
}

bool hello_command(int argc, char **argv, int *status)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(argv[0], commands[i].name)) {
			*status = commands[i].run(argc - 1, argv + 1);
			return true;
		}
	return false;
}
