// Package hello is the small program inside the built-in images
// sagong.local/hello:v1 and :v2, made of the running binary itself so that a
// cluster can be tried without a registry.
//
// Many pods run it, so the server and the small commands are C: a constructor
// (personality.c) takes over before the Go runtime starts when the program was
// called by the name "hello", and a pod costs about 1.3 MB, nearly all of it
// shared. What needs name resolution or archives is Go: `hello get`, `tar`.
//
// The server answers every path but those below with a page about its pod, as
// text or, asked with "Accept: application/json", as JSON: pod, namespace, node,
// address, version, method, path, client, env and files.
//
//	/healthz         200
//	/readyz          200; 503 while the file /tmp/unready exists, and after SIGTERM
//	/log?line=TEXT   writes a line to standard output
//	/sleep?ms=N      answers the page after N milliseconds, at most a minute
//	/exit?code=N     answers, then ends the process with this code
//
// Its environment:
//
//	PORT                 where it listens (8080); or the option -port
//	POD_NAME, HOSTNAME   the pod's name; the first that is set
//	POD_NAMESPACE, NODE_NAME, POD_IP   from the downward API
//	HELLO_VERSION        the version shown, set by the image
//	HELLO_ENV            the variables shown: "GREETING,SHOW_*"
//	HELLO_DIRS           the directories whose files are shown:
//	                     "/etc/hello/config:/etc/hello/secret"
//	HELLO_ACCESS_LOG     if set and not "0", a line for each request
//
// At SIGTERM it goes on accepting, since whoever routes requests may not have
// heard yet, but has each answer close its connection; it ends once nothing
// has come for a quarter of a second, after ten seconds at most.
package hello
