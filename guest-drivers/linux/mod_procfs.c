// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module procfs: files below /proc by path, from an allow-list.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/glob.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include "rvmrpc_drv.h"

#define PROCFS_PREFIX		"/proc/"
#define PROCFS_PATH_MAX		255
#define PROCFS_ALLOW_MAX	1024

static DEFINE_MUTEX(procfs_allow_lock);
static char procfs_allow[PROCFS_ALLOW_MAX] =	/* procfs_allow_lock */
	"/proc/meminfo,/proc/cpuinfo,/proc/loadavg,/proc/stat,/proc/vmstat,/proc/uptime,"
	"/proc/version,/proc/pressure/*,/proc/buddyinfo,/proc/zoneinfo,/proc/swaps,"
	"/proc/diskstats,/proc/1/net/dev";

/* The pattern at text, without blanks around it; *length: its bytes.  Returns where the next one begins. */
static const char *procfs_pattern(const char *text, const char **pattern, size_t *length)
{
	const char *end = strchrnul(text, ',');

	*pattern = skip_spaces(text);
	*length = end > *pattern ? end - *pattern : 0;
	while (*length && isspace((*pattern)[*length - 1]))
		(*length)--;
	return *end ? end + 1 : end;
}

static int procfs_allow_check(const char *text)
{
	const char *pattern;
	size_t length;

	if (strlen(text) >= PROCFS_ALLOW_MAX)
		return -ENOSPC;
	while (*text) {
		text = procfs_pattern(text, &pattern, &length);
		if (length > PROCFS_PATH_MAX)
			return -ENAMETOOLONG;
	}
	return 0;
}

static int procfs_allow_set(const char *text, const struct kernel_param *kp)
{
	int err = procfs_allow_check(text);

	if (err)
		return err;
	mutex_lock(&procfs_allow_lock);
	strscpy(procfs_allow, text, PROCFS_ALLOW_MAX);
	strim(procfs_allow);
	mutex_unlock(&procfs_allow_lock);
	return 0;
}

static int procfs_allow_get(char *buffer, const struct kernel_param *kp)
{
	int length;

	mutex_lock(&procfs_allow_lock);
	length = sysfs_emit(buffer, "%s\n", procfs_allow);
	mutex_unlock(&procfs_allow_lock);
	return length;
}

static const struct kernel_param_ops procfs_allow_ops = {
	.set = procfs_allow_set,
	.get = procfs_allow_get,
};
module_param_cb(procfs_allow, &procfs_allow_ops, NULL, 0644);
MODULE_PARM_DESC(procfs_allow, "files that procfs.read may read: absolute paths, comma separated, * and ? match any characters, [abc], [a-z] and [!a-z] one, \\ takes the next as it is");

static bool procfs_allowed(const char *path)
{
	char pattern[PROCFS_PATH_MAX + 1];
	const char *at = procfs_allow, *item;
	bool allowed = false;
	size_t length;

	mutex_lock(&procfs_allow_lock);
	while (*at && !allowed) {
		at = procfs_pattern(at, &item, &length);
		memcpy(pattern, item, length);
		pattern[length] = '\0';
		allowed = glob_match(pattern, path);
	}
	mutex_unlock(&procfs_allow_lock);
	return allowed;
}

/* Every name of the path stands for itself, so that the allow-list's patterns mean what they say. */
static bool procfs_path_ok(const char *path)
{
	const char *name = path;
	size_t length;

	if (strncmp(path, PROCFS_PREFIX, strlen(PROCFS_PREFIX)))
		return false;
	while (*name == '/') {
		length = strcspn(++name, "/");
		if (!length || (length == 1 && name[0] == '.') ||
		    (length == 2 && name[0] == '.' && name[1] == '.'))
			return false;
		name += length;
	}
	return true;
}

/* offset: from there as much as fits; negative: all of it. */
static int procfs_read_file(const char *path, s64 offset, struct rvmrpc_response *res)
{
	struct file *file = rvmrpc_proc_open(path, O_RDONLY | O_NONBLOCK);
	ssize_t got;

	if (IS_ERR(file))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	got = rvmrpc_proc_read(file, path, res->res, res->resmax, max_t(s64, offset, 0));
	fput(file);
	if (got < 0)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	/* No telling whether there is more. */
	if (got == res->resmax && offset < 0)
		return RVMRPC_STATUS_TOO_BIG;
	res->reslen = got;
	return RVMRPC_STATUS_OK;
}

static int procfs_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	u32 length = strnlen(req->arg, req->arglen);
	char path[PROCFS_PATH_MAX + 1];
	s64 offset = -1;

	if (length > PROCFS_PATH_MAX || (length < req->arglen && req->arglen != length + 1 + sizeof(offset)))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	memcpy(path, req->arg, length);
	path[length] = '\0';
	if (length < req->arglen) {
		memcpy(&offset, req->arg + length + 1, sizeof(offset));
		if (offset < 0)
			return RVMRPC_STATUS_GARBAGE_ARGS;
	}
	if (!procfs_path_ok(path))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (!procfs_allowed(path))
		return RVMRPC_STATUS_NOT_ALLOWED;
	return procfs_read_file(path + strlen(PROCFS_PREFIX), offset, res);
}

static const struct rvmrpc_procedure procfs_procs[] = {
	{
		.number = RVMRPC_PROCFS_READ,
		.name = "read",
		.flags = RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP,
		.arg_min = sizeof(PROCFS_PREFIX),
		.arg_max = PROCFS_PATH_MAX + 1 + sizeof(u64),
		.handler = procfs_read,
	},
};

static struct rvmrpc_module procfs_module = {
	.number = RVMRPC_MOD_PROCFS,
	.version = 1,
	.name = "procfs",
	.procs = procfs_procs,
	.nprocs = ARRAY_SIZE(procfs_procs),
};

int rvmrpc_mod_procfs_init(void)
{
	return rvmrpc_builtin_add(&procfs_module);
}

void rvmrpc_mod_procfs_exit(void)
{
	rvmrpc_builtin_remove(&procfs_module);
}
