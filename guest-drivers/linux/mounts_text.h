/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the driver makes of mountinfo.  No kernel is needed here, so tests/unit runs it in user space.
 */
#ifndef MOUNTS_TEXT_H
#define MOUNTS_TEXT_H

#include "sysinfo_text.h"

struct rvmrpc_mount {
	u64 id, parent;
	u64 major, minor;
	char *root, *target, *options, *type, *source, *super_options;	/* in the line */
	u64 number;	/* of the line */
};

/* Takes the word at *at, which ends up behind the blank; NULL: the line is over. */
static inline char *mounts_word(char **at)
{
	char *word = *at, *end;

	if (!*word)
		return NULL;
	end = strchrnul(word, ' ');
	*at = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static inline bool mounts_octal(const char *at)
{
	return at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' &&
	       at[3] >= '0' && at[3] <= '7';
}

/* "\040" is a blank, and so on. */
static inline void mounts_unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (mounts_octal(text)) {
			*to++ = (text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0');
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/*
 * "36 35 98:0 /root /target rw,noatime master:1 - ext4 /dev/vda rw": a line without its newline, which is taken apart.
 * False: it is none.
 */
static inline bool mounts_read(char *line, struct rvmrpc_mount *m)
{
	char *device, *word;
	const char *at;

	at = sysinfo_number(line, &m->id);
	sysinfo_number(at, &m->parent);
	mounts_word(&line);
	mounts_word(&line);
	device = mounts_word(&line);
	m->root = mounts_word(&line);
	m->target = mounts_word(&line);
	m->options = mounts_word(&line);
	if (!m->options)
		return false;
	at = sysinfo_number(device, &m->major);
	if (*at != ':')
		return false;
	sysinfo_number(at + 1, &m->minor);
	do
		word = mounts_word(&line);
	while (word && strcmp(word, "-"));
	m->type = mounts_word(&line);
	m->source = mounts_word(&line);
	m->super_options = mounts_word(&line);
	if (!m->super_options)
		return false;
	mounts_unescape(m->root);
	mounts_unescape(m->target);
	mounts_unescape(m->source);
	mounts_unescape(m->type);
	return true;
}

static inline bool mounts_read_only(const struct rvmrpc_mount *m)
{
	return !strncmp(m->options, "ro", 2) || !strncmp(m->super_options, "ro", 2);
}

/* A server or a process has to answer for it, and might not. */
static inline bool mounts_remote(const char *type)
{
	static const char * const names[] = {
		"9p", "afs", "autofs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "glusterfs", "gpfs", "lustre",
		"ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", NULL
	};
	const char * const *name;

	if (!strncmp(type, "fuse.", 5))
		return true;
	for (name = names; *name; name++) {
		if (!strcmp(type, *name))
			return true;
	}
	return false;
}

#endif /* MOUNTS_TEXT_H */
