/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module registry, dispatch, allow-list, size checks.
 *
 * Freestanding: allocates nothing, takes no lock, copies nothing that can fault, includes one header of the OS.
 * "Registry lock" below is a lock of the OS; the core never sleeps with it.
 */
#ifndef RVMRPC_SERVER_H
#define RVMRPC_SERVER_H

#include "rvmrpc_os.h"	/* fixed-width types, bool, size_t, NULL, memcpy, memset, memcmp */
#include "rvmrpc_abi.h"
#include "rvmrpc_window.h"

#define RVMRPC_MODULES_MAX	64
#define RVMRPC_ALLOW_MAX	1024	/* bytes of an allow-list's text, NUL included */

/* A call as a procedure sees it; the fields are the paper's (figure 5). */
struct rvmrpc_request {
	uint32_t mod;
	uint32_t func;
	uint32_t arglen;	/* bytes at arg; at most what the slot holds */
	uint32_t timeout_ms;	/* what the caller has left */
	uint64_t xid;
	const void *arg;	/* private memory */
};

/* The OS's: bytes of an answer that lie elsewhere until it is published, as a file's do in the guest's page cache. */
struct rvmrpc_pages;

struct rvmrpc_response {
	uint32_t resmax;	/* bytes that fit at res */
	uint32_t reslen;	/* set by the procedure, 0 at first; those in pages, too */
	void *res;
	struct rvmrpc_pages *pages;	/* NULL: all of it goes to res */
};

/* Returns RVMRPC_STATUS_*; runs in the server thread or in a worker, with no lock held. */
typedef int (*rvmrpc_dispatch_fn)(struct rvmrpc_request *req, struct rvmrpc_response *res);

/* One procedure; handler NULL: the module's dispatch function gets it. */
struct rvmrpc_procedure {
	uint32_t number;
	uint32_t flags;		/* RVMRPC_PROC_READ_ONLY, _MAY_SLEEP, _SECRET */
	uint32_t arg_min;	/* bytes; fewer or more are GARBAGE_ARGS */
	uint32_t arg_max;	/* RVMRPC_ARG_ANY: what the slot holds */
	const char *name;	/* at most RVMRPC_NAME_MAX bytes */
	rvmrpc_dispatch_fn handler;
};
#define RVMRPC_ARG_ANY		0xffffffffu

struct rvmrpc_module {
	uint32_t number;
	uint16_t version;
	const char *name;
	const struct rvmrpc_procedure *procs;
	uint32_t nprocs;
	rvmrpc_dispatch_fn dispatch;	/* for procedures not in procs (they may sleep and are not read-only), or NULL */
	void *owner;			/* the OS's (struct module *) */
	uint32_t running;		/* calls inside it; registry lock */
};

struct rvmrpc_server {
	struct rvmrpc_module *modules[RVMRPC_MODULES_MAX];	/* sorted by number; registry lock */
	uint32_t nmodules;					/* registry lock */
	uint32_t generation;	/* not 0 once there is a module; changes with anything that a lookup found; registry lock to write */
	uint32_t salt;						/* the host's, of the epoch, in what it is told; registry lock */
	char allow[RVMRPC_ALLOW_MAX];				/* normal form; registry lock */
};

/* What the registry says of one procedure, for as long as its generation is the same. */
struct rvmrpc_lookup {
	uint32_t number;		/* of the module, as asked for */
	uint32_t procedure;		/* likewise */
	uint32_t generation;
	uint32_t list;			/* the generation as core.list tells it */
	uint32_t status;		/* a refusal that holds for every call, or RVMRPC_STATUS_OK */
	uint32_t flags;			/* RVMRPC_PROC_* */
	uint16_t version;		/* of the module that is there, 0 = none */
	struct rvmrpc_module *module;
	const struct rvmrpc_procedure *proc;	/* NULL: dispatch */
};

/* A request that rvmrpc_server_accept() took. */
struct rvmrpc_accepted {
	struct rvmrpc_module *module;	/* NULL when refused */
	const struct rvmrpc_procedure *proc;	/* NULL: dispatch */
	uint32_t flags;			/* RVMRPC_PROC_* that hold for this call */
	uint32_t status;		/* refusal, or RVMRPC_STATUS_OK */
	bool counted;			/* in the module's running */
	uint16_t version;		/* of the module that is there, for the reply */
	const struct rvmrpc_hdr *hdr;	/* the checked copy, the caller's; as long as this is used */
	struct rvmrpc_pages *pages;	/* set by who runs it, if he has them */
};

/* Of numbers with up to 16 digits; 16: it is none. */
static inline uint32_t rvmrpc_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (uint32_t)(c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (uint32_t)(c - 'A' + 10);
	return 16;
}

void rvmrpc_server_init(struct rvmrpc_server *s);

/*
 * Adds a module.  Registry lock held.  RVMRPC_STATUS_OK, GARBAGE_ARGS (bad names, two procedures with one number, no
 * way to run a procedure), BUSY (number or name taken), TOO_BIG (registry full).
 */
int rvmrpc_server_add(struct rvmrpc_server *s, struct rvmrpc_module *m);

/*
 * Removes it: no new call gets into it.  Registry lock held.  OK; MODULE_UNAVAILABLE; BUSY when calls still run in it: it
 * must be there until running is 0.
 */
int rvmrpc_server_remove(struct rvmrpc_server *s, struct rvmrpc_module *m);

/*
 * Sets the allow-list: items separated by commas or white space, "module.procedure" by name or number, "*" for either;
 * "default" for all built-in read-only procedures without secrets, reclaim.drop_caches and connect.*; "none"; "-" before
 * an item takes it away; the last item that matches decides.  Registry lock held.  GARBAGE_ARGS names the first bad byte in
 * *bad; the old list then stays.  TOO_BIG.
 */
int rvmrpc_server_allow(struct rvmrpc_server *s, const char *text, uint32_t *bad);

/*
 * The driver is registered anew, before it serves a request: what a list told under another epoch, before a reboot, a
 * restored state, another load of the driver, is no more.  Registry lock held.  epoch: random, the host's.
 */
void rvmrpc_server_new_epoch(struct rvmrpc_server *s, uint64_t epoch);

/*
 * Judges the private copy of a request's header.  Registry lock held.  Returns false when the header is not for this
 * epoch or is malformed (no answer is owed: count it).  Otherwise fills *a: with status OK module and flags are set and
 * the module's running count is raised; with any other status the refusal is to be sent.  req_bytes: what the slot holds
 * behind the header.
 */
bool rvmrpc_server_accept(struct rvmrpc_server *s, const struct rvmrpc_hdr *hdr, uint64_t epoch, uint16_t abi,
			  uint32_t req_bytes, struct rvmrpc_accepted *a);

/*
 * The same in two steps.  lookup() with the registry lock; judge() without it, as often as one likes, while the
 * generation is the same and the module cannot go away: the call is not counted as running, nothing is to be undone.
 */
void rvmrpc_server_lookup(const struct rvmrpc_server *s, uint32_t module, uint32_t procedure, struct rvmrpc_lookup *l);

static inline uint32_t rvmrpc_lookup_status(const struct rvmrpc_lookup *l, const struct rvmrpc_hdr *hdr,
					    uint32_t req_bytes)
{
	/* Numbers of a list that is no more may be another module's by now. */
	if (hdr->list && hdr->list != l->list)
		return RVMRPC_STATUS_VERSION_MISMATCH;
	/* A wrong version comes before what the version that is there does not have. */
	if (hdr->version && l->module && hdr->version != l->version)
		return RVMRPC_STATUS_VERSION_MISMATCH;
	if (l->status != RVMRPC_STATUS_OK)
		return l->status;
	/* The host has told its caller that it failed. */
	if (!hdr->timeout_ms)
		return RVMRPC_STATUS_CANCELLED;
	if (hdr->length > req_bytes)
		return RVMRPC_STATUS_TOO_BIG;
	if (l->proc && (hdr->length < l->proc->arg_min || hdr->length > l->proc->arg_max))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	return RVMRPC_STATUS_OK;
}

static inline bool rvmrpc_server_judge(const struct rvmrpc_lookup *l, const struct rvmrpc_hdr *hdr, uint64_t epoch,
				       uint16_t abi, uint32_t req_bytes, struct rvmrpc_accepted *a)
{
	const rvmrpc_hdr_word *w = (const rvmrpc_hdr_word *)hdr;

	/* magic and abi; epoch; flags and status; what is reserved beside list.  And an xid. */
	if (((w[0] ^ RVMRPC_HDR_WORD0(abi, 0)) & RVMRPC_HDR_WORD0_FIXED) | (w[1] ^ epoch) | w[4] | w[6] >> 32 | w[7] ||
	    !epoch || !w[2])
		return false;
	a->status = rvmrpc_lookup_status(l, hdr, req_bytes);
	a->module = a->status == RVMRPC_STATUS_OK ? l->module : NULL;
	a->proc = l->proc;
	a->flags = l->flags;
	a->counted = false;
	a->pages = NULL;
	a->version = l->version;
	a->hdr = hdr;
	return true;
}

/* The call runs in its module until rvmrpc_server_done().  Registry lock held since the lookup. */
static inline void rvmrpc_server_count(struct rvmrpc_accepted *a)
{
	a->module->running++;
	a->counted = true;
}

/*
 * Runs an accepted call (or does nothing for a refusal); a->status is its outcome.  No lock held; sleeps if the
 * procedure does.  arg and res are the payloads.  Returns the answer's bytes.
 */
static inline uint32_t rvmrpc_server_perform(struct rvmrpc_accepted *a, const void *arg, void *res, uint32_t res_bytes)
{
	const struct rvmrpc_hdr *hdr = a->hdr;
	struct rvmrpc_response response = { .resmax = res_bytes, .res = res, .pages = a->pages };
	struct rvmrpc_request request = {
		.mod = hdr->module,
		.func = hdr->procedure,
		.arglen = hdr->length,
		.timeout_ms = hdr->timeout_ms,
		.xid = hdr->xid,
		.arg = arg,
	};
	rvmrpc_dispatch_fn fn;
	int status;

	if (a->status != RVMRPC_STATUS_OK)
		return 0;
	fn = a->proc && a->proc->handler ? a->proc->handler : a->module->dispatch;
	status = fn(&request, &response);
	if (status == RVMRPC_STATUS_OK && response.reslen <= res_bytes)
		return response.reslen;
	if (status == RVMRPC_STATUS_OK)
		status = RVMRPC_STATUS_TOO_BIG;
	a->status = RVMRPC_STATUS_IS_GUESTS((uint32_t)status) ? status : RVMRPC_STATUS_SYSTEM_ERROR;
	return 0;
}

static inline void rvmrpc_server_reply(const struct rvmrpc_accepted *a, uint32_t length, struct rvmrpc_hdr *reply)
{
	const rvmrpc_hdr_word *asked = (const rvmrpc_hdr_word *)a->hdr;
	rvmrpc_hdr_word *w = (rvmrpc_hdr_word *)reply;

	/* What was asked for, of the version that answers. */
	w[0] = (asked[0] & RVMRPC_HDR_WORD0_FIXED) | (uint64_t)a->version << 48;
	w[1] = asked[1];
	w[2] = asked[2];
	w[3] = asked[3];
	w[4] = RVMRPC_HDR_PAIR(0, a->status);
	w[5] = length;
	w[6] = 0;
	w[7] = 0;
}

/* Both: performs the call and fills the reply's header. */
static inline void rvmrpc_server_run(struct rvmrpc_accepted *a, const void *arg, void *res, uint32_t res_bytes,
				     struct rvmrpc_hdr *reply)
{
	uint32_t length = rvmrpc_server_perform(a, arg, res, res_bytes);

	rvmrpc_server_reply(a, length, reply);
}

/* After rvmrpc_server_run().  Registry lock held. */
void rvmrpc_server_done(struct rvmrpc_server *s, struct rvmrpc_accepted *a);

/* core.list: writes a struct rvmrpc_list and entries into buf.  Registry lock held.  Returns bytes, 0 when none fit. */
uint32_t rvmrpc_server_list(const struct rvmrpc_server *s, uint32_t first, void *buf, uint32_t bytes);

/* Builds a struct rvmrpc_info in a response: begin, then text and items in any order, then end. */
struct rvmrpc_info_writer {
	struct rvmrpc_item *items;	/* in the response */
	char *text;			/* scratch of the caller */
	uint32_t nitems, items_max;
	uint32_t text_length, text_max, raw_length;
	bool overflow;
};
/* What a request for information asks for.  OK or GARBAGE_ARGS. */
int rvmrpc_info_wanted(const struct rvmrpc_request *req, struct rvmrpc_info_req *wanted);
void rvmrpc_info_begin(struct rvmrpc_info_writer *w, struct rvmrpc_response *res, char *text, uint32_t text_max);
void rvmrpc_info_raw(struct rvmrpc_info_writer *w, uint32_t length);	/* the first length bytes of text are the raw text */
void rvmrpc_info_u64(struct rvmrpc_info_writer *w, uint16_t key, uint32_t index, uint64_t value);
void rvmrpc_info_string(struct rvmrpc_info_writer *w, uint16_t key, uint32_t index, const char *s, uint32_t length);
/* Whether so many more items and bytes of strings fit, for an answer that ends early rather than in TOO_BIG. */
bool rvmrpc_info_fits(const struct rvmrpc_info_writer *w, const struct rvmrpc_response *res, uint32_t items,
		      uint32_t text);

/* An answer of many CPUs, which may need several. */
struct rvmrpc_info_page {
	uint32_t first;			/* CPU with which this answer begins */
	uint32_t items, text;		/* most that a CPU takes */
	uint16_t next_key;		/* of the item that says where the next answer begins */
};
/* Before what is known of each CPU, in order.  False: it does not fit here, and the answer says so. */
bool rvmrpc_info_cpu(struct rvmrpc_info_writer *w, const struct rvmrpc_response *res,
		     const struct rvmrpc_info_page *page, uint32_t cpu);
int rvmrpc_info_end(struct rvmrpc_info_writer *w, struct rvmrpc_response *res);	/* OK or TOO_BIG */

#endif /* RVMRPC_SERVER_H */
