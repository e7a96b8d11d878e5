// Decides, before the Go runtime starts, whether this process is the hello
// program: it is when it was called by that name.
#include "hello.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

// glibc gives constructors the arguments of main, in static programs too.
__attribute__((constructor)) static void personality(int argc, char **argv)
{
	if (argc < 1 || !argv || !argv[0])
		return;
	const char *name = strrchr(argv[0], '/');
	if (strcmp(name ? name + 1 : argv[0], "hello"))
		return;
	int status;
	if (argc == 1 || argv[1][0] == '-')
		status = hello_serve(argc, argv);
	else if (!hello_command(argc - 1, argv + 1, &status))
		return; // Go has it
	fflush(stdout);
	_exit(status);
}
