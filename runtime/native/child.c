// A child of the shim on its way to becoming a container or an exec: joins
// cgroups and namespaces, mounts, gives up privileges, executes. What to do and
// in which order was decided in plan.go; here nothing is decided. Every path
// inside the container is resolved with openat2(RESOLVE_IN_ROOT), because the
// container's own files may be hostile.
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

// As in plan.go.
enum {
	PLAN_MAGIC = 0x31504753,
	FLAG_JOIN = 1, FLAG_CGROUPNS = 2, FLAG_NNP = 4, FLAG_TTY = 8, FLAG_READONLY = 16,
	OP_END = 0, OP_ATTACH, OP_FS, OP_SHM, OP_NODE, OP_LINK, OP_MASK, OP_READONLY, OP_CONSOLE,
};

static int report_fd;

// Says what failed and ends. The message goes to the user through StartError:
// kind 'X' is "no such executable", 'F' any other failure.
static _Noreturn void fail(char kind, int err, const char *format, ...)
{
	char text[4096];
	va_list ap;
	text[0] = REPORT_ERROR;
	text[1] = kind;
	memcpy(text + 2, &err, sizeof err);
	va_start(ap, format);
	int n = vsnprintf(text + 6, sizeof text - 6, format, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n > sizeof text - 7)
		n = sizeof text - 7;
	send_fd(report_fd, text, 6 + (size_t)n, -1, 0);
	_exit(128);
}
#define FAIL(...) fail('F', errno, __VA_ARGS__)

static int sys_move_mount(int from, int to)
{
	return (int)syscall(SYS_move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int sys_open_tree(int fd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, fd, path, flags | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

static int set_readonly(int fd, unsigned flags)
{
	struct mount_attr a = { .attr_set = MOUNT_ATTR_RDONLY };
	return (int)syscall(SYS_mount_setattr, fd, "", flags | AT_EMPTY_PATH, &a, sizeof a);
}

static int root_fd = -1;

// Opens a path as the container would see it, never leaving its root.
static int in_root(const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd;
	do // a concurrent rename makes the kernel ask to try again
		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
	while (fd < 0 && errno == EAGAIN);
	return fd;
}

static int make_parent(const char *path, const char **name);

// Opens a path, making what is missing of it. Go gives clean, absolute paths.
static int make(const char *path, int is_dir, mode_t mode)
{
	int fd = in_root(path, O_PATH);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	const char *name;
	int parent = make_parent(path, &name);
	if (parent < 0)
		return -1;
	int r;
	if (is_dir) {
		r = mkdirat(parent, name, mode);
	} else {
		r = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
		if (r >= 0)
			close(r);
	}
	int err = errno;
	char link[4096];
	ssize_t n = r < 0 && err == EEXIST ? readlinkat(parent, name, link, sizeof link) : -1;
	close(parent);
	if (r < 0 && err != EEXIST) {
		errno = err;
		return -1;
	}
	if (n <= 0)
		return in_root(path, O_PATH);
	// A link to what does not exist, as many images have for /etc/resolv.conf:
	// make that.
	static int depth;
	char next[8192];
	int dir = link[0] == '/' ? 0 : (int)(name - path);
	if (++depth > 40 || (size_t)n >= sizeof link || link[n - 1] == '/' ||
	    (size_t)snprintf(next, sizeof next, "%.*s%.*s", dir, path, (int)n, link) >= sizeof next) {
		errno = ELOOP;
		return -1;
	}
	fd = make(next, is_dir, mode);
	depth--;
	return fd;
}

static void attach(int tree, const char *target, int is_dir)
{
	int at = make(target, is_dir, 0755);
	if (at < 0)
		FAIL("make mount point \"%s\"", target);
	if (sys_move_mount(tree, at) < 0) {
		// The kernel says EINVAL to a directory on a file and the reverse.
		struct stat st;
		if (errno == EINVAL && fstat(at, &st) == 0 && !S_ISDIR(st.st_mode) != !is_dir)
			errno = is_dir ? ENOTDIR : EISDIR;
		FAIL("mount \"%s\"", target);
	}
	close(at);
	close(tree);
}

// Makes a detached file system of options "key\0value\0...".
static int new_fs(const char *type, const char *options, uint32_t len, uint32_t attrs, const char *target)
{
	int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	if (fs < 0)
		FAIL("open file system %s for \"%s\"", type, target);
	const char *end = options + len;
	while (options < end) {
		const char *key = options, *value = key + strlen(key) + 1;
		int r;
		if (value[0] == '\0')
			r = (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0);
		else
			r = (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
		if (r < 0)
			FAIL("set option %s=%s of %s for \"%s\"", key, value, type, target);
		options = value + strlen(value) + 1;
	}
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		FAIL("make file system %s for \"%s\"", type, target);
	int tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs);
	if (tree < 0)
		FAIL("mount %s on \"%s\"", type, target);
	close(fs);
	return tree;
}

// Opens the directory that a path lies in, and says the name in it.
static int make_parent(const char *path, const char **name)
{
	char dir[4096];
	*name = strrchr(path, '/') + 1;
	size_t n = (size_t)(*name - path);
	if (n >= sizeof dir) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, n);
	dir[n > 1 ? n - 1 : n] = '\0';
	return make(dir, 1, 0755);
}

static void make_node(const char *path, uint32_t mode, uint32_t major, uint32_t minor, uint32_t uid, uint32_t gid)
{
	const char *name;
	int parent = make_parent(path, &name);
	if (parent < 0)
		FAIL("make device \"%s\"", path);
	int r = mknodat(parent, name, mode, makedev(major, minor));
	if (r < 0 && errno == EEXIST) {
		unlinkat(parent, name, 0);
		r = mknodat(parent, name, mode, makedev(major, minor));
	}
	if (r < 0)
		FAIL("make device \"%s\"", path);
	if ((uid || gid) && fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		FAIL("set owner of device \"%s\"", path);
	close(parent);
}

static void mask(const char *path)
{
	int at = in_root(path, O_PATH);
	if (at < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
			return;
		FAIL("mask \"%s\"", path);
	}
	struct stat st;
	if (fstat(at, &st) < 0)
		FAIL("mask \"%s\"", path);
	int tree;
	if (S_ISDIR(st.st_mode)) {
		static const char size[] = "size\0000k\0nr_inodes\0001";
		tree = new_fs("tmpfs", size, sizeof size, MOUNT_ATTR_RDONLY, path);
	} else {
		int null = in_root("/dev/null", O_PATH | O_NOFOLLOW);
		struct stat ns;
		if (null < 0 || fstat(null, &ns) < 0)
			FAIL("open /dev/null to mask \"%s\"", path);
		if (!S_ISCHR(ns.st_mode) || ns.st_rdev != makedev(1, 3)) {
			errno = EINVAL;
			FAIL("mask \"%s\": /dev/null of the container is something else", path);
		}
		tree = sys_open_tree(null, "", OPEN_TREE_CLONE);
		if (tree < 0)
			FAIL("mask \"%s\"", path);
		close(null);
	}
	if (sys_move_mount(tree, at) < 0)
		FAIL("mask \"%s\"", path);
	close(tree);
	close(at);
}

static void make_readonly(const char *path)
{
	int at = in_root(path, O_PATH);
	if (at < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return;
		FAIL("make \"%s\" read-only", path);
	}
	int tree = sys_open_tree(at, "", OPEN_TREE_CLONE | AT_RECURSIVE);
	if (tree < 0 || set_readonly(tree, AT_RECURSIVE) < 0 || sys_move_mount(tree, at) < 0)
		FAIL("make \"%s\" read-only", path);
	close(tree);
	close(at);
}

// Opens a terminal of the container's own devpts and gives its master to the
// shim. Returns the slave. The file system is checked, not the path trusted.
static int new_terminal(uint32_t uid)
{
	int m = in_root("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW);
	struct stat st;
	struct statfs sf;
	if (m < 0 || fstat(m, &st) < 0 || fstatfs(m, &sf) < 0)
		FAIL("open a terminal");
	if (sf.f_type != 0x1cd1 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2)) {
		errno = EINVAL;
		FAIL("open a terminal: /dev/pts/ptmx is something else");
	}
	int unlock = 0;
	if (ioctl(m, TIOCSPTLCK, &unlock) < 0)
		FAIL("unlock the terminal");
	int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s < 0)
		FAIL("open the terminal's other end");
	if (fchown(s, uid, 5) < 0 || fchmod(s, 0620) < 0)
		FAIL("set the owner of the terminal");
	char tag = REPORT_TTY;
	if (send_fd(report_fd, &tag, 1, m, 0) < 0)
		FAIL("hand over the terminal");
	close(m);
	return s;
}

static void run_ops(struct plan *p, struct fds *fds, int shm, int *tty, uint32_t uid)
{
	for (;;) {
		uint32_t op = plan_u32(p), len;
		if (p->bad || op == OP_END)
			return;
		const char *target = plan_str(p);
		switch (op) {
		case OP_ATTACH: {
			uint32_t i = plan_u32(p), is_dir = plan_u32(p);
			if (p->bad || i >= (uint32_t)fds->n)
				return;
			attach(fds->fd[i], target, (int)is_dir);
			break;
		}
		case OP_FS: {
			const char *type = plan_str(p);
			const char *options = plan_blob(p, &len);
			uint32_t attrs = plan_u32(p);
			if (p->bad)
				return;
			attach(new_fs(type, options, len, attrs, target), target, 1);
			break;
		}
		case OP_SHM:
			attach(shm, target, 1);
			break;
		case OP_NODE: {
			uint32_t mode = plan_u32(p), major = plan_u32(p), minor = plan_u32(p);
			uint32_t u = plan_u32(p), g = plan_u32(p);
			if (p->bad)
				return;
			make_node(target, mode, major, minor, u, g);
			break;
		}
		case OP_LINK: {
			const char *to = plan_str(p);
			const char *name;
			int parent = make_parent(target, &name);
			if (parent < 0 || (symlinkat(to, parent, name) < 0 && errno != EEXIST))
				FAIL("make link \"%s\"", target);
			close(parent);
			break;
		}
		case OP_MASK:
			mask(target);
			break;
		case OP_READONLY:
			make_readonly(target);
			break;
		case OP_CONSOLE: {
			*tty = new_terminal(uid);
			int tree = sys_open_tree(*tty, "", OPEN_TREE_CLONE);
			if (tree < 0)
				FAIL("mount the terminal on \"%s\"", target);
			attach(tree, target, 0);
			break;
		}
		default:
			errno = EINVAL;
			FAIL("carry out step %u of the plan", op);
		}
	}
}

// Puts the new root in place and lets go of everything of the host.
static void enter_root(int tree)
{
	int r = open("/r", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r < 0 || sys_move_mount(tree, r) < 0)
		FAIL("mount the root file system");
	close(r);
	if (chdir("/r") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    syscall(SYS_umount2, ".", 2 /* MNT_DETACH */) < 0 || chdir("/") < 0)
		FAIL("enter the root file system");
	close(tree);
}

static void set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	for (int i = 0; i < 2; i++) {
		d[i].effective = (uint32_t)(effective >> (32 * i));
		d[i].permitted = (uint32_t)(permitted >> (32 * i));
		d[i].inheritable = (uint32_t)(inheritable >> (32 * i));
	}
	if (syscall(SYS_capset, &h, d) < 0)
		FAIL("set capabilities");
}

static uint64_t have_caps(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	if (syscall(SYS_capget, &h, d) < 0)
		FAIL("read capabilities");
	return d[0].permitted | (uint64_t)d[1].permitted << 32;
}

static void install_filter(const void *code, uint32_t len, uint32_t flags)
{
	struct sock_fprog prog = { .len = (unsigned short)(len / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)code };
	if (len == 0)
		return;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) < 0)
		FAIL("install the seccomp filter");
}

static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	for (int s = 1; s < NSIG; s++)
		sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void execute(char **argv, char **envp)
{
	const char *path = NULL;
	for (char **e = envp; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			path = *e + 5;
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, envp);
		int err = errno;
		struct stat st;
		if (err == ENOENT && stat(argv[0], &st) == 0) // an interpreter or loader is missing
			fail('F', err, "exec \"%s\": its interpreter", argv[0]);
		if (err == EACCES && stat(argv[0], &st) == 0 && S_ISDIR(st.st_mode))
			fail('F', EISDIR, "exec: \"%s\"", argv[0]);
		fail(err == ENOENT || err == ENOTDIR ? 'X' : 'F', err, "exec: \"%s\"", argv[0]);
	}
	if (!path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	int denied = 0;
	while (*path) {
		size_t n = strcspn(path, ":");
		char full[4096];
		if (n > 0 && path[0] == '/' &&
		    (size_t)snprintf(full, sizeof full, "%.*s/%s", (int)n, path, argv[0]) < sizeof full) {
			struct stat st;
			if (stat(full, &st) == 0 && S_ISREG(st.st_mode)) {
				execve(full, argv, envp);
				if (errno != EACCES)
					fail('F', errno, "exec \"%s\"", full);
				denied = 1;
			}
		}
		path += n;
		if (*path == ':')
			path++;
	}
	if (denied)
		fail('F', EACCES, "exec: \"%s\"", argv[0]);
	fail('X', 0, "exec: \"%s\": executable file not found in $PATH", argv[0]);
}

// /dev/stdout must open for the container's user; /dev/null is the host's.
static void own(int fd, uint32_t uid)
{
	struct stat st;
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		(void)!fchown(fd, uid, (gid_t)-1);
}

static char **strings(struct plan *p)
{
	uint32_t n = plan_u32(p);
	if (p->bad || n > (uint32_t)(p->end - p->at))
		return NULL;
	char **v = calloc(n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < n; i++)
		v[i] = (char *)plan_str(p);
	return v;
}

_Noreturn void child_run(struct child *c)
{
	struct plan *p = &c->plan;
	report_fd = c->report;
	// Nobody in the container may look into this process before it executes.
	prctl(PR_SET_DUMPABLE, 0);

	uint32_t magic = plan_u32(p), flags = plan_u32(p);
	if (magic != PLAN_MAGIC) {
		errno = EPROTO;
		FAIL("read the plan");
	}
	const char *oom = plan_str(p);
	if (oom[0]) { // best effort: lowering needs CAP_SYS_RESOURCE
		int f = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (f >= 0) {
			(void)!write(f, oom, strlen(oom));
			close(f);
		}
	}
	for (uint32_t n = plan_u32(p); n > 0 && !p->bad; n--) {
		uint32_t i = plan_u32(p);
		if (i >= (uint32_t)c->fds->n || write(c->fds->fd[i], "0", 1) != 1)
			FAIL("join cgroup");
	}
	uint32_t target = plan_u32(p), namespaces = plan_u32(p), rootfs = plan_u32(p);
	if ((flags & FLAG_CGROUPNS) && unshare(CLONE_NEWCGROUP) < 0)
		FAIL("make a cgroup namespace");
	setsid();
	umask(0); // the modes of the plan are meant as they are

	int shm = -1, tty = -1;
	if (flags & FLAG_JOIN) {
		if (target >= (uint32_t)c->fds->n || setns(c->fds->fd[target], (int)namespaces) < 0)
			FAIL("enter the container");
	} else {
		if (rootfs >= (uint32_t)c->fds->n) {
			errno = EPROTO;
			FAIL("read the plan");
		}
		shm = sys_open_tree(AT_FDCWD, "/shm", OPEN_TREE_CLONE);
		enter_root(c->fds->fd[rootfs]);
	}
	root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		FAIL("open the root file system");

	uint32_t uid = plan_u32(p), gid = plan_u32(p);
	run_ops(p, c->fds, shm, &tty, uid);
	if (p->bad) {
		errno = EPROTO;
		FAIL("read the plan");
	}

	struct { uint32_t resource; struct rlimit limit; } limits[RLIM_NLIMITS];
	uint32_t nlimits = plan_u32(p);
	for (uint32_t i = 0; i < nlimits && i < RLIM_NLIMITS; i++) {
		limits[i].resource = plan_u32(p);
		limits[i].limit.rlim_cur = plan_u64(p);
		limits[i].limit.rlim_max = plan_u64(p);
	}
	const char *cwd = plan_str(p);
	uint32_t ngroups = plan_u32(p);
	gid_t *groups = calloc(ngroups + 1, sizeof *groups);
	for (uint32_t i = 0; groups && i < ngroups && !p->bad; i++)
		groups[i] = plan_u32(p);
	uint64_t permitted = plan_u64(p), bounding = plan_u64(p), ambient = plan_u64(p);
	uint32_t filter_len, filter_flags = plan_u32(p);
	const void *filter = plan_blob(p, &filter_len);
	char **argv = strings(p), **envp = strings(p);
	if (p->bad || !argv || !argv[0] || !envp || !groups || nlimits > RLIM_NLIMITS) {
		errno = EPROTO;
		FAIL("read the plan");
	}

	// The working directory is opened as root and checked to lie inside.
	int dir = make(cwd, 1, 0755);
	if (dir < 0 || fchdir(dir) < 0)
		FAIL("change to working directory \"%s\"", cwd);
	if (!(flags & FLAG_JOIN) && (flags & FLAG_READONLY) && set_readonly(root_fd, 0) < 0)
		FAIL("make the root file system read-only");
	close(dir);
	char here[4096];
	if (syscall(SYS_getcwd, here, sizeof here) < 0 || here[0] != '/')
		FAIL("change to working directory \"%s\": it lies outside the container", cwd);

	if (flags & FLAG_TTY) {
		if (tty < 0)
			tty = new_terminal(uid);
		struct winsize w = { .ws_col = (unsigned short)c->columns, .ws_row = (unsigned short)c->rows };
		if (c->rows > 0 && ioctl(tty, TIOCSWINSZ, &w) < 0)
			FAIL("set the size of the terminal");
		c->in = c->out = c->err = tty;
	} else {
		own(c->in, uid);
		own(c->out, uid);
		own(c->err, uid);
	}
	// None of the three can be below 3: the shim keeps 0, 1 and 2 open.
	if (dup2(c->in, 0) < 0 || dup2(c->out, 1) < 0 || dup2(c->err, 2) < 0)
		FAIL("connect standard streams");
	if ((flags & FLAG_TTY) && ioctl(0, TIOCSCTTY, 0) < 0)
		FAIL("take the terminal");

	for (uint32_t i = 0; i < nlimits; i++)
		if (setrlimit(limits[i].resource, &limits[i].limit) < 0)
			FAIL("set resource limit %u to %llu:%llu", limits[i].resource,
			     (unsigned long long)limits[i].limit.rlim_cur, (unsigned long long)limits[i].limit.rlim_max);

	// Capabilities that nobody has can be neither kept nor given.
	uint64_t have = have_caps();
	permitted &= have;
	for (int cap = 0; cap < 64; cap++)
		if (!(bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			FAIL("drop capability %d", cap);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		FAIL("keep capabilities");
	if (setgroups(ngroups, groups) < 0)
		FAIL("set supplementary groups");
	if (setresgid(gid, gid, gid) < 0)
		FAIL("set group %u", gid);
	if (setresuid(uid, uid, uid) < 0)
		FAIL("set user %u", uid);
	umask(022);
	reset_signals();
	if (flags & FLAG_NNP) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			FAIL("set no_new_privs");
	} else if (filter_len > 0) {
		// Installing a filter then takes CAP_SYS_ADMIN, which a change of user
		// took out of the effective set; it goes with the next call.
		set_caps(have, have, 0);
		install_filter(filter, filter_len, filter_flags);
		filter_len = 0;
	}
	set_caps(permitted, permitted, ambient);
	for (int cap = 0; cap < 64; cap++)
		if ((ambient & permitted) >> cap & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	// The container ends with the shim; later changes of credentials would
	// clear this.
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	install_filter(filter, filter_len, filter_flags);
	execute(argv, envp);
}

_Noreturn void pause_run(struct child *c)
{
	report_fd = c->report;
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (int i = 0; i < c->joins && i < c->fds->n; i++)
		if (write(c->fds->fd[i], "0", 1) != 1)
			FAIL("join cgroup");
	setsid();
	// Containers see this process; it must show them nothing of the host.
	static const char size[] = "size\0000k\0nr_inodes\0001";
	enter_root(new_fs("tmpfs", size, sizeof size, MOUNT_ATTR_RDONLY, "/"));
	reset_signals();
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int cap = 0; cap < 64; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (setgroups(0, NULL) < 0 || setresgid(65535, 65535, 65535) < 0 || setresuid(65535, 65535, 65535) < 0)
		FAIL("give up privileges");
	set_caps(0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_NAME, "pause", 0, 0, 0);
	// Nothing of the shim's stays open; the report's end says "started".
	syscall(SYS_close_range, 0, ~0U, 0);
	for (;;) {
		int sig;
		sigwait(&all, &sig);
		if (sig == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		else if (sig == SIGTERM || sig == SIGINT)
			_exit(0);
	}
}
