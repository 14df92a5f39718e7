/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half; the contract of each function is in rvmrpc_server.h.
 */
#include "rvmrpc_server.h"

#define PROC_FLAGS	(RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP | RVMRPC_PROC_SECRET)

enum { PART_ANY, PART_NUMBER, PART_NAME };
enum { ITEM_PATTERN, ITEM_DEFAULT, ITEM_NONE };

struct allow_part {
	int kind;
	uint32_t number;
	const char *name;
	uint32_t length;
};

struct allow_item {
	bool minus;
	int kind;
	struct allow_part module;
	struct allow_part procedure;
};

static uint32_t text_length(const char *text)
{
	uint32_t n = 0;

	while (text[n])
		n++;
	return n;
}

static bool text_is(const char *text, uint32_t length, const char *word)
{
	return text_length(word) == length && !memcmp(text, word, length);
}

static bool is_separator(char c)
{
	return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* A name begins with a letter, so it is never taken for a number, "*" or "-" of the allow-list. */
static uint32_t name_length(const char *text)
{
	uint32_t n = 0;

	if (!is_letter(text[0]))
		return 0;
	while (is_letter(text[n]) || is_digit(text[n]) || text[n] == '-')
		n++;
	return n;
}

static bool name_ok(const char *name)
{
	uint32_t n;

	if (!name)
		return false;
	n = name_length(name);
	return n && n <= RVMRPC_NAME_MAX && !name[n];
}

static bool name_equal(const char *a, const char *b)
{
	return text_is(a, text_length(a), b);
}

/* ---- Allow-list ---- */

/* Returns the bytes read, 0 when there is no number or it does not fit. */
static uint32_t parse_number(const char *text, uint32_t *number)
{
	uint32_t base = 10, start = 0, i;
	uint64_t value = 0;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		start = 2;
	}
	for (i = start; rvmrpc_digit(text[i]) < base; i++) {
		value = value * base + rvmrpc_digit(text[i]);
		if (value > 0xffffffffu)
			return 0;
	}
	*number = (uint32_t)value;
	return i > start ? i : 0;
}

static uint32_t parse_part(const char *text, struct allow_part *part)
{
	uint32_t n;

	if (text[0] == '*') {
		part->kind = PART_ANY;
		return 1;
	}
	if (is_digit(text[0])) {
		part->kind = PART_NUMBER;
		return parse_number(text, &part->number);
	}
	n = name_length(text);
	part->kind = PART_NAME;
	part->name = text;
	part->length = n;
	return n <= RVMRPC_NAME_MAX ? n : 0;
}

static bool item_ends(char c)
{
	return !c || is_separator(c);
}

/* Parses the item at text.  *length: its bytes, or on failure those before the first bad one. */
static bool parse_item(const char *text, struct allow_item *item, uint32_t *length)
{
	uint32_t at = 0, n;

	memset(item, 0, sizeof(*item));
	if (text[0] == '-') {
		item->minus = true;
		at = 1;
	}
	*length = at;
	n = name_length(text + at);
	if (item_ends(text[at + n])) {
		*length = at + n;
		item->kind = ITEM_DEFAULT;
		if (text_is(text + at, n, "default"))
			return true;
		item->kind = ITEM_NONE;
		return text_is(text + at, n, "none") && !item->minus;
	}
	item->kind = ITEM_PATTERN;
	n = parse_part(text + at, &item->module);
	at += n;
	*length = at;
	if (!n || text[at] != '.')
		return false;
	at++;
	n = parse_part(text + at, &item->procedure);
	*length = at + n;
	return n && item_ends(text[at + n]);
}

/* Writes the normal form (items separated by one comma) to out, if given; returns its length. */
static bool normalize(const char *text, char *out, uint32_t *length, uint32_t *bad)
{
	uint32_t at = 0, used = 0, n;
	struct allow_item item;

	for (;;) {
		while (is_separator(text[at]))
			at++;
		if (!text[at])
			break;
		if (!parse_item(text + at, &item, &n)) {
			*bad = at + n;
			return false;
		}
		if (out) {
			if (used)
				out[used] = ',';
			memcpy(out + used + (used ? 1 : 0), text + at, n);
		}
		used += n + (used ? 1 : 0);
		at += n;
		if (used >= RVMRPC_ALLOW_MAX)
			break;
	}
	*length = used;
	return true;
}

/* What core.list tells, and a call by what it told: not 0. */
static uint32_t told_generation(const struct rvmrpc_server *s)
{
	return s->generation + s->salt;
}

/* One store: it is read without the lock. */
static void list_changed(struct rvmrpc_server *s)
{
	uint32_t next = s->generation;

	do {
		next++;
	} while (!next || !(next + s->salt));
	s->generation = next;
}

void rvmrpc_server_new_epoch(struct rvmrpc_server *s, uint64_t epoch)
{
	s->salt = (uint32_t)(epoch ^ epoch >> 32);
	list_changed(s);
}

int rvmrpc_server_allow(struct rvmrpc_server *s, const char *text, uint32_t *bad)
{
	uint32_t length = 0;

	if (!normalize(text, NULL, &length, bad))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (length >= RVMRPC_ALLOW_MAX)
		return RVMRPC_STATUS_TOO_BIG;
	if (!length)
		text = "none";
	normalize(text, s->allow, &length, bad);
	s->allow[length] = 0;
	list_changed(s);
	return RVMRPC_STATUS_OK;
}

static bool part_matches(const struct allow_part *part, uint32_t number, const char *name)
{
	if (part->kind == PART_ANY)
		return true;
	if (part->kind == PART_NUMBER)
		return part->number == number;
	return name && text_is(part->name, part->length, name);
}

static bool default_matches(const struct rvmrpc_module *m, uint32_t number, uint32_t flags)
{
	if (m->number >= RVMRPC_MOD_USER || (flags & RVMRPC_PROC_SECRET))
		return false;
	if (flags & RVMRPC_PROC_READ_ONLY)
		return true;
	/* Has an allow-list of its own, which is empty at first. */
	if (m->number == RVMRPC_MOD_CONNECT)
		return true;
	return m->number == RVMRPC_MOD_RECLAIM && number == RVMRPC_RECLAIM_DROP_CACHES;
}

/* name is NULL for a procedure that only the dispatch function knows. */
static bool is_allowed(const struct rvmrpc_server *s, const struct rvmrpc_module *m, uint32_t number,
		       const char *name, uint32_t flags)
{
	struct allow_item item;
	bool allowed = false;
	uint32_t at, n;

	for (at = 0; s->allow[at]; at += s->allow[at] == ',') {
		if (!parse_item(s->allow + at, &item, &n))
			return false;
		at += n;
		if (item.kind == ITEM_NONE)
			allowed = false;
		else if (item.kind == ITEM_DEFAULT ? default_matches(m, number, flags) :
			 part_matches(&item.module, m->number, m->name) &&
			 part_matches(&item.procedure, number, name))
			allowed = !item.minus;
	}
	return allowed;
}

/* ---- Registry ---- */

void rvmrpc_server_init(struct rvmrpc_server *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->allow, "default", sizeof("default"));
}

static bool procedure_ok(const struct rvmrpc_module *m, uint32_t index)
{
	const struct rvmrpc_procedure *p = &m->procs[index];
	uint32_t i;

	if (!name_ok(p->name) || (p->flags & ~PROC_FLAGS) || p->arg_min > p->arg_max)
		return false;
	if (!p->handler && !m->dispatch)
		return false;
	for (i = 0; i < index; i++)
		if (m->procs[i].number == p->number || name_equal(m->procs[i].name, p->name))
			return false;
	return true;
}

static bool module_ok(const struct rvmrpc_module *m)
{
	uint32_t i;

	if (!name_ok(m->name) || (m->nprocs && !m->procs) || (!m->nprocs && !m->dispatch))
		return false;
	for (i = 0; i < m->nprocs; i++)
		if (!procedure_ok(m, i))
			return false;
	return true;
}

int rvmrpc_server_add(struct rvmrpc_server *s, struct rvmrpc_module *m)
{
	uint32_t i;

	if (!module_ok(m))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	for (i = 0; i < s->nmodules; i++)
		if (s->modules[i]->number == m->number || name_equal(s->modules[i]->name, m->name))
			return RVMRPC_STATUS_BUSY;
	if (s->nmodules == RVMRPC_MODULES_MAX)
		return RVMRPC_STATUS_TOO_BIG;
	m->running = 0;
	for (i = s->nmodules++; i && s->modules[i - 1]->number > m->number; i--)
		s->modules[i] = s->modules[i - 1];
	s->modules[i] = m;
	list_changed(s);
	return RVMRPC_STATUS_OK;
}

int rvmrpc_server_remove(struct rvmrpc_server *s, struct rvmrpc_module *m)
{
	uint32_t i;

	for (i = 0; i < s->nmodules && s->modules[i] != m; i++)
		;
	if (i == s->nmodules)
		return RVMRPC_STATUS_MODULE_UNAVAILABLE;
	for (s->nmodules--; i < s->nmodules; i++)
		s->modules[i] = s->modules[i + 1];
	s->modules[i] = NULL;
	list_changed(s);
	return m->running ? RVMRPC_STATUS_BUSY : RVMRPC_STATUS_OK;
}

/* ---- Dispatch ---- */

static struct rvmrpc_module *find_module(const struct rvmrpc_server *s, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < s->nmodules; i++)
		if (s->modules[i]->number == number)
			return s->modules[i];
	return NULL;
}

static const struct rvmrpc_procedure *find_procedure(const struct rvmrpc_module *m, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < m->nprocs; i++)
		if (m->procs[i].number == number)
			return &m->procs[i];
	return NULL;
}

void rvmrpc_server_lookup(const struct rvmrpc_server *s, uint32_t module, uint32_t procedure, struct rvmrpc_lookup *l)
{
	struct rvmrpc_module *m = find_module(s, module);
	const struct rvmrpc_procedure *p = m ? find_procedure(m, procedure) : NULL;

	l->number = module;
	l->procedure = procedure;
	l->generation = s->generation;
	l->list = told_generation(s);
	l->status = RVMRPC_STATUS_OK;
	l->flags = p ? p->flags : RVMRPC_PROC_MAY_SLEEP;
	l->version = m ? m->version : 0;
	l->module = m;
	l->proc = p;
	if (!m)
		l->status = RVMRPC_STATUS_MODULE_UNAVAILABLE;
	else if (!p && !m->dispatch)
		l->status = RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	else if (!is_allowed(s, m, procedure, p ? p->name : NULL, l->flags))
		l->status = RVMRPC_STATUS_NOT_ALLOWED;
	else
		l->flags |= RVMRPC_PROC_ALLOWED;
}

bool rvmrpc_server_accept(struct rvmrpc_server *s, const struct rvmrpc_hdr *hdr, uint64_t epoch, uint16_t abi,
			  uint32_t req_bytes, struct rvmrpc_accepted *a)
{
	struct rvmrpc_lookup l;

	rvmrpc_server_lookup(s, hdr->module, hdr->procedure, &l);
	if (!rvmrpc_server_judge(&l, hdr, epoch, abi, req_bytes, a))
		return false;
	if (a->module)
		rvmrpc_server_count(a);
	return true;
}

void rvmrpc_server_done(struct rvmrpc_server *s, struct rvmrpc_accepted *a)
{
	(void)s;
	if (a->counted)
		a->module->running--;
	a->counted = false;
	a->module = NULL;
}

/* ---- core.list ---- */

struct list_writer {
	uint32_t first;
	uint32_t total;
	uint32_t count;
	uint32_t max;
	uint32_t generation;
	struct rvmrpc_list_entry *entries;
};

static void list_entry(struct list_writer *w, uint16_t kind, uint16_t version, uint32_t number, uint32_t flags,
		       const char *name)
{
	struct rvmrpc_list_entry entry = {
		.kind = kind,
		.version = version,
		.number = number,
		.flags = flags,
		.generation = w->generation,
	};

	if (w->total++ < w->first || w->count == w->max)
		return;
	memcpy(entry.name, name, text_length(name));
	memcpy(&w->entries[w->count++], &entry, sizeof(entry));
}

uint32_t rvmrpc_server_list(const struct rvmrpc_server *s, uint32_t first, void *buf, uint32_t bytes)
{
	const struct rvmrpc_procedure *p;
	const struct rvmrpc_module *m;
	struct rvmrpc_list head;
	struct list_writer w;
	uint32_t i, j, flags;

	if (bytes < sizeof(head))
		return 0;
	memset(&w, 0, sizeof(w));
	w.first = first;
	w.generation = told_generation(s);
	w.max = (bytes - sizeof(head)) / sizeof(struct rvmrpc_list_entry);
	w.entries = (struct rvmrpc_list_entry *)((char *)buf + sizeof(head));
	for (i = 0; i < s->nmodules; i++) {
		m = s->modules[i];
		list_entry(&w, RVMRPC_LIST_MODULE, m->version, m->number, 0, m->name);
		for (j = 0; j < m->nprocs; j++) {
			p = &m->procs[j];
			flags = p->flags;
			if (is_allowed(s, m, p->number, p->name, flags))
				flags |= RVMRPC_PROC_ALLOWED;
			list_entry(&w, RVMRPC_LIST_PROCEDURE, m->version, p->number, flags, p->name);
		}
	}
	if (!w.count && first < w.total)
		return 0;
	head.total = w.total;
	head.count = w.count;
	memcpy(buf, &head, sizeof(head));
	return sizeof(head) + w.count * sizeof(struct rvmrpc_list_entry);
}

/* ---- Info writer ---- */

int rvmrpc_info_wanted(const struct rvmrpc_request *req, struct rvmrpc_info_req *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	if (req->arglen && req->arglen != sizeof(*wanted))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	memcpy(wanted, req->arg, req->arglen);
	return wanted->flags & ~RVMRPC_INFO_TEXT ? RVMRPC_STATUS_GARBAGE_ARGS : RVMRPC_STATUS_OK;
}

void rvmrpc_info_begin(struct rvmrpc_info_writer *w, struct rvmrpc_response *res, char *text, uint32_t text_max)
{
	memset(w, 0, sizeof(*w));
	w->text = text;
	w->text_max = text_max;
	if (res->resmax < sizeof(struct rvmrpc_info)) {
		w->overflow = true;
		return;
	}
	w->items = (struct rvmrpc_item *)((char *)res->res + sizeof(struct rvmrpc_info));
	w->items_max = (res->resmax - sizeof(struct rvmrpc_info)) / sizeof(struct rvmrpc_item);
}

void rvmrpc_info_raw(struct rvmrpc_info_writer *w, uint32_t length)
{
	/* A string that was written before would lie in the raw text. */
	if (length > w->text_max || w->text_length) {
		w->overflow = true;
		return;
	}
	w->raw_length = length;
	w->text_length = length;
}

static void info_item(struct rvmrpc_info_writer *w, uint16_t key, uint16_t type, uint32_t index, uint64_t value)
{
	struct rvmrpc_item item = { .key = key, .type = type, .index = index, .value = value };

	if (w->overflow || w->nitems == w->items_max) {
		w->overflow = true;
		return;
	}
	memcpy(&w->items[w->nitems++], &item, sizeof(item));
}

void rvmrpc_info_u64(struct rvmrpc_info_writer *w, uint16_t key, uint32_t index, uint64_t value)
{
	info_item(w, key, RVMRPC_ITEM_U64, index, value);
}

void rvmrpc_info_string(struct rvmrpc_info_writer *w, uint16_t key, uint32_t index, const char *s, uint32_t length)
{
	if (length > w->text_max - w->text_length) {
		w->overflow = true;
		return;
	}
	info_item(w, key, RVMRPC_ITEM_STRING, index, (uint64_t)length << 32 | w->text_length);
	memcpy(w->text + w->text_length, s, length);
	w->text_length += length;
}

bool rvmrpc_info_fits(const struct rvmrpc_info_writer *w, const struct rvmrpc_response *res, uint32_t items,
		      uint32_t text)
{
	return sizeof(struct rvmrpc_info) + w->text_length + text +
	       (size_t)(w->nitems + items) * sizeof(struct rvmrpc_item) <= res->resmax &&
	       text <= w->text_max - w->text_length;
}

bool rvmrpc_info_cpu(struct rvmrpc_info_writer *w, const struct rvmrpc_response *res,
		     const struct rvmrpc_info_page *page, uint32_t cpu)
{
	/* With room to say that there are more. */
	if (rvmrpc_info_fits(w, res, page->items + 1, page->text))
		return true;
	if (!cpu || cpu == page->first)
		w->overflow = true;	/* not even one */
	else
		rvmrpc_info_u64(w, page->next_key, RVMRPC_INDEX_ALL, cpu);
	return false;
}

int rvmrpc_info_end(struct rvmrpc_info_writer *w, struct rvmrpc_response *res)
{
	struct rvmrpc_info head;
	uint32_t bytes;

	if (w->overflow)
		return RVMRPC_STATUS_TOO_BIG;
	bytes = sizeof(head) + w->nitems * sizeof(struct rvmrpc_item);
	if (w->text_length > res->resmax - bytes)
		return RVMRPC_STATUS_TOO_BIG;
	memset(&head, 0, sizeof(head));
	head.count = w->nitems;
	head.text_length = w->text_length;
	head.raw_length = w->raw_length;
	if (w->text_length)
		memcpy((char *)res->res + bytes, w->text, w->text_length);
	memcpy(res->res, &head, sizeof(head));
	res->reslen = bytes + w->text_length;
	return RVMRPC_STATUS_OK;
}
