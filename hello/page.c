// The answer: who this pod is and what it was given.
#include "hello.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { MAX_FILES = 64, MAX_FILE = 4096 };

extern char **environ;

const char *hello_version(void)
{
	const char *v = getenv("HELLO_VERSION");
	return v ? v : "unknown";
}

// The first of two variables that is set, or a last resort.
static const char *setting(const char *name, const char *other)
{
	const char *v = getenv(name);
	return v && *v ? v : other;
}

// Whether the list in HELLO_ENV ("GREETING,SHOW_*") means this variable.
static bool shown(const char *name, size_t n)
{
	const char *list = setting("HELLO_ENV", "GREETING,SHOW_*");
	while (*list) {
		size_t len = strcspn(list, ",");
		if (len && list[len - 1] == '*' ? n >= len - 1 && !memcmp(list, name, len - 1) : n == len && !memcmp(list, name, n))
			return true;
		list += len + (list[len] == ',');
	}
	return false;
}

// Writes one name and value, as a line or as a member of an object.
static void pair(struct text *out, bool json, bool *first, const char *what, const char *name, size_t name_len, const char *value, size_t len)
{
	if (json) {
		hello_text_str(out, *first ? "" : ",");
		hello_text_json(out, name, name_len);
		hello_text_str(out, ":");
		hello_text_json(out, value, len);
	} else {
		hello_text_str(out, what);
		hello_text_add(out, name, name_len);
		hello_text_str(out, what[0] ? " = " : ": ");
		while (len && value[len - 1] == '\n')
			len--;
		hello_text_add(out, value, len);
		hello_text_str(out, "\n");
	}
	*first = false;
}

static void line(struct text *out, bool json, bool *first, const char *name, const char *value)
{
	pair(out, json, first, "", name, strlen(name), value, strlen(value));
}

static void environment(struct text *out, bool json)
{
	bool first = true;
	for (char **e = environ; *e; e++) {
		const char *eq = strchr(*e, '=');
		if (eq && shown(*e, (size_t)(eq - *e)))
			pair(out, json, &first, "env ", *e, (size_t)(eq - *e), eq + 1, strlen(eq + 1));
	}
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// The files of one directory, sorted. Names that begin with ".." are how
// Kubernetes swaps whole sets of files; they are not values.
static void directory(struct text *out, bool json, bool *first, const char *dir)
{
	DIR *d = opendir(dir);
	if (!d)
		return;
	char *names[MAX_FILES];
	int n = 0;
	struct dirent *e;
	while (n < MAX_FILES && (e = readdir(d)))
		if (e->d_name[0] != '.' && (names[n] = strdup(e->d_name)))
			n++;
	closedir(d);
	qsort(names, (size_t)n, sizeof *names, by_name);
	for (int i = 0; i < n; i++) {
		char path[1024], value[MAX_FILE];
		struct stat st;
		int len = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		free(names[i]);
		if (len <= 0 || (size_t)len >= sizeof path)
			continue;
		// O_NONBLOCK: a FIFO here must not hold up the server.
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		ssize_t got = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, value, sizeof value) : -1;
		close(fd);
		if (got >= 0)
			pair(out, json, first, "file ", path, (size_t)len, value, (size_t)got);
	}
}

static void files(struct text *out, bool json)
{
	bool first = true;
	const char *list = setting("HELLO_DIRS", "/etc/hello/config:/etc/hello/secret");
	while (*list) {
		size_t len = strcspn(list, ":");
		char dir[512];
		if (len && len < sizeof dir) {
			memcpy(dir, list, len);
			dir[len] = 0;
			directory(out, json, &first, dir);
		}
		list += len + (list[len] == ':');
	}
}

void hello_page_write(struct text *out, const struct page *p)
{
	bool json = p->request->json, first = true;
	struct utsname host = {0};
	uname(&host);
	hello_text_str(out, json ? "{" : "Hello from Sagong\n");
	line(out, json, &first, "pod", setting("POD_NAME", setting("HOSTNAME", host.nodename)));
	line(out, json, &first, "namespace", setting("POD_NAMESPACE", ""));
	line(out, json, &first, "node", setting("NODE_NAME", ""));
	line(out, json, &first, "address", setting("POD_IP", p->local));
	line(out, json, &first, "version", hello_version());
	pair(out, json, &first, "", "method", 6, p->request->method, p->request->method_len);
	pair(out, json, &first, "", "path", 4, p->request->path, p->request->path_len);
	line(out, json, &first, "client", p->peer);
	if (json)
		hello_text_str(out, ",\"env\":{");
	environment(out, json);
	if (json)
		hello_text_str(out, "},\"files\":{");
	files(out, json);
	if (json)
		hello_text_str(out, "}}\n");
}
