// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rvmrpc-serve: a command of the guest serves procedures to the host; see rvmrpc-serve(8).
 *
 * One thread, which waits in poll() for requests, for what the commands write, and for their ends.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "os.h"
#include "rvmrpc-guest.h"

#define JOBS_MAX	16
/* After the caller's time, which the caller's host is to say itself: an answer that comes first would be another. */
#define GRACE_MS	100

/* A command that runs. */
struct job {
	uint64_t id;
	int64_t deadline;	/* ms of os_clock, with GRACE_MS */
	pid_t pid;		/* 0: none; leads a process group */
	int ended;		/* os_watch() */
	int out;		/* its stdout; -1: at its end */
	char *answer;
	size_t length;
};

static struct job jobs[JOBS_MAX];
static int jobs_max = 4;
static int device;
static struct rvmrpc_serve_proc procs[RVMRPC_SERVE_PROCS_MAX];
static struct rvmrpc_serve_module module = { .version = 1, .procs = procs };
static char **command;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(os_clock, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void answer(uint64_t id, uint32_t status, const void *data, size_t length)
{
	int error = rvmrpc_serve_answer(device, id, status, data, length);

	if (error && error != -EMSGSIZE)
		warnx("cannot answer: %s", strerror(-error));
}

/* ---- Commands ---- */

/* The argument as a file, so that nobody has to feed a pipe. */
static int file_of(const void *data, size_t length)
{
	int fd = os_memory_file();

	if (fd >= 0 && (ftruncate(fd, length) || write(fd, data, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		return -1;
	}
	return fd;
}

static const char *proc_name(uint32_t number)
{
	/* The driver lets no other number pass. */
	return number < module.nprocs ? procs[number].name : "";
}

static _Noreturn void run_command(const struct rvmrpc_serve_request *request, int in, int out, pid_t parent)
{
	char text[16];

	setpgid(0, 0);
	os_die_with_parent();
	if (getppid() != parent)
		_exit(126);
	signal(SIGPIPE, SIG_DFL);
	snprintf(text, sizeof(text), "%u", request->timeout_ms);
	setenv("RVMRPC_MODULE", module.name, 1);
	setenv("RVMRPC_PROCEDURE", proc_name(request->procedure), 1);
	setenv("RVMRPC_TIMEOUT_MS", text, 1);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
		execvp(command[0], command);
	warn("%s", command[0]);
	_exit(127);
}

static void job_kill(struct job *job)
{
	kill(-job->pid, SIGKILL);
	kill(job->pid, SIGKILL);
}

/* It has ended, or will at once. */
static void job_end(struct job *job, uint32_t status)
{
	int how;

	/* What it left behind would hold its answer's pipe. */
	job_kill(job);
	while (waitpid(job->pid, &how, 0) < 0 && errno == EINTR)
		;
	if (status == RVMRPC_STATUS_OK && (!WIFEXITED(how) || WEXITSTATUS(how)))
		status = RVMRPC_STATUS_SYSTEM_ERROR;
	answer(job->id, status, job->answer, status == RVMRPC_STATUS_OK ? job->length : 0);
	if (job->out >= 0)
		close(job->out);
	close(job->ended);
	free(job->answer);
	job->pid = 0;
}

static void job_start(struct job *job, const struct rvmrpc_serve_request *request)
{
	int in = file_of(rvmrpc_serve_argument(request), request->length), out[2] = { -1, -1 };
	pid_t parent = getpid();

	memset(job, 0, sizeof(*job));
	job->id = request->id;
	job->deadline = now_ms() + request->timeout_ms + GRACE_MS;
	if (in >= 0 && !pipe2(out, O_CLOEXEC))
		job->pid = fork();
	if (in >= 0 && out[1] >= 0 && !job->pid)
		run_command(request, in, out[1], parent);
	if (job->pid > 0) {
		setpgid(job->pid, job->pid);
		fcntl(out[0], F_SETFL, O_NONBLOCK);
		job->out = out[0];
		job->ended = os_watch(job->pid);
		if (job->ended < 0)
			job_end(job, RVMRPC_STATUS_SYSTEM_ERROR);
	} else {
		warn("cannot start %s", command[0]);
		answer(job->id, RVMRPC_STATUS_SYSTEM_ERROR, NULL, 0);
		job->pid = 0;
		close(out[0]);
	}
	close(in);
	close(out[1]);
}

/* Reads what there is. False: it is too much, or there is no memory for it, and the job has ended. */
static bool job_read(struct job *job)
{
	char part[65536], *longer;
	ssize_t n;

	while (job->out >= 0) {
		n = read(job->out, part, sizeof(part));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0) {
			close(job->out);
			job->out = -1;
			return true;
		}
		if (job->length + n > RVMRPC_SLOT_BYTES_MAX) {
			job_end(job, RVMRPC_STATUS_TOO_BIG);
			return false;
		}
		longer = realloc(job->answer, job->length + n);
		if (!longer) {
			job_end(job, RVMRPC_STATUS_SYSTEM_ERROR);
			return false;
		}
		memcpy(longer + job->length, part, n);
		job->answer = longer;
		job->length += n;
	}
	return true;
}

/* ---- Requests ---- */

static struct job *job_free(void)
{
	int i;

	for (i = 0; i < jobs_max; i++) {
		if (!jobs[i].pid)
			return &jobs[i];
	}
	return NULL;
}

static void take_request(struct job *job)
{
	static uint64_t buffer[(RVMRPC_SERVE_BUFFER + 7) / 8];
	struct rvmrpc_serve_request *request = rvmrpc_serve_next(device, buffer, sizeof(buffer));

	if (!request) {
		if (errno != EAGAIN && errno != EINTR)
			err(1, "%s", RVMRPC_SERVE_DEVICE);
		return;
	}
	job_start(job, request);
}

/* How long nobody's deadline is over; -1: for ever. */
static int next_deadline(void)
{
	int64_t now = now_ms(), first = -1;
	int i;

	for (i = 0; i < jobs_max; i++) {
		if (jobs[i].pid && (first < 0 || jobs[i].deadline < first))
			first = jobs[i].deadline;
	}
	if (first < 0)
		return -1;
	return first > now ? (int)(first - now) : 0;
}

static void serve(void)
{
	struct pollfd fds[1 + 2 * JOBS_MAX];
	struct job *unused = job_free();
	int i;

	/* While all run, requests wait in the driver. */
	fds[0] = (struct pollfd){ .fd = unused ? device : -1, .events = POLLIN };
	for (i = 0; i < jobs_max; i++) {
		fds[1 + 2 * i] = (struct pollfd){ .fd = jobs[i].pid ? jobs[i].out : -1, .events = POLLIN };
		fds[2 + 2 * i] = (struct pollfd){ .fd = jobs[i].pid ? jobs[i].ended : -1, .events = POLLIN };
	}
	if (poll(fds, 1 + 2 * jobs_max, next_deadline()) < 0) {
		if (errno != EINTR)
			err(1, "poll");
		return;
	}
	for (i = 0; i < jobs_max; i++) {
		struct job *job = &jobs[i];

		if (!job->pid || (fds[1 + 2 * i].revents && !job_read(job)))
			continue;
		if (fds[2 + 2 * i].revents) {
			if (job_read(job))
				job_end(job, RVMRPC_STATUS_OK);
		} else if (now_ms() >= job->deadline) {
			job_end(job, RVMRPC_STATUS_CANCELLED);
		}
	}
	if (fds[0].revents)
		take_request(unused);
}

/* ---- Start and end ---- */

static void stop(int number)
{
	int i;

	for (i = 0; i < jobs_max; i++) {
		if (jobs[i].pid)
			kill(-jobs[i].pid, SIGKILL);
	}
	_exit(128 + number);
}

static _Noreturn void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: rvmrpc-serve [-n NUMBER] [-j JOBS] [-r] [-s] NAME PROCEDURE[,PROCEDURE]... -- COMMAND [ARGUMENT]...\n"
		"  -n NUMBER  of the module, 0x100 or more (default: one that is free)\n"
		"  -j JOBS    commands at a time, 1 to %d (default: 4)\n"
		"  -r         the procedures change nothing\n"
		"  -s         what they tell is root's: shown as secret\n", JOBS_MAX);
	exit(status);
}

static unsigned long number_of(const char *text, unsigned long least, unsigned long most, const char *what)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 0);
	if (errno || !*text || *text == '-' || *end || number < least || number > most)
		errx(2, "%s must be between %#lx and %#lx: %s", what, least, most, text);
	return number;
}

static void parse_procs(char *text, uint32_t flags)
{
	char *name;

	while ((name = strsep(&text, ","))) {
		struct rvmrpc_serve_proc *proc = &procs[module.nprocs];

		if (module.nprocs == RVMRPC_SERVE_PROCS_MAX)
			errx(2, "more than %d procedures", RVMRPC_SERVE_PROCS_MAX);
		if (!*name || strlen(name) >= sizeof(proc->name))
			errx(2, "a procedure's name has 1 to %zu bytes: %s", sizeof(proc->name) - 1, name);
		strcpy(proc->name, name);
		proc->flags = flags;
		proc->number = module.nprocs++;
	}
}

static void parse(int argc, char **argv)
{
	uint32_t flags = 0;
	int option;

	while ((option = getopt(argc, argv, "+hn:j:rs")) != -1) {
		switch (option) {
		case 'n':
			module.number = number_of(optarg, RVMRPC_MOD_USER, UINT32_MAX, "a module's number");
			break;
		case 'j':
			jobs_max = number_of(optarg, 1, JOBS_MAX, "-j");
			break;
		case 'r':
			flags |= RVMRPC_PROC_READ_ONLY;
			break;
		case 's':
			flags |= RVMRPC_PROC_SECRET;
			break;
		default:
			usage(option == 'h' ? 0 : 2);
		}
	}
	if (argc - optind < 4 || strcmp(argv[optind + 2], "--"))
		usage(2);
	module.name = argv[optind];
	parse_procs(argv[optind + 1], flags);
	command = argv + optind + 3;
}

static const char *register_error(int error)
{
	switch (error) {
	case -ENOENT:
		return "no such device: load rvmrpc.ko with user=1 (FreeBSD: hw.rvmrpc.user=1)";
	case -EEXIST:
		return "another module has that name or number";
	case -EINVAL:
		return "a name is a letter or '_', then letters, digits, '_' or '-', 31 bytes at most, and none is there twice";
	default:
		return strerror(-error);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };
	uint32_t number;

	parse(argc, argv);
	device = rvmrpc_serve_open(&module, &number);
	if (device < 0)
		errx(1, "cannot serve %s: %s", module.name, register_error(device));
	fcntl(device, F_SETFL, O_NONBLOCK);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	printf("%s: 0x%x\n", module.name, number);
	fflush(stdout);
	for (;;)
		serve();
}
