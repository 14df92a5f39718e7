/*
 * Standard input and output of the tools
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "stdio.h"

static const char *program_name;
static gboolean may_stop;
static int first_error;         /* of stdout */

/* With the wrong direction: to use it fails, as with a closed one. */
static void open_closed(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) {
            _exit(EXIT_FAILURE);
        }
    }
}

gboolean stdio_flush(void)
{
    if (fflush(stdout) != 0 && !first_error) {
        first_error = errno;
    }
    return !first_error && !ferror(stdout);
}

/* At the end of every command, --help and --version too. */
static void check_output(void)
{
    gboolean ok = stdio_flush();

    if (fclose(stdout) != 0 && !first_error) {
        first_error = errno;
        ok = FALSE;
    }
    if (ok || (may_stop && first_error == EPIPE)) {
        return;
    }
    fprintf(stderr, "%s: cannot write the output: %s\n", program_name,
            first_error ? g_strerror(first_error) : "it failed");
    _exit(EXIT_FAILURE);
}

void stdio_begin(const char *program)
{
    open_closed();
    program_name = program;
    atexit(check_output);
}

void stdio_may_stop(void)
{
    may_stop = TRUE;
}
