/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fuzzer's bytes as a stream; past its end all is zero. */
#ifndef RVMRPC_FUZZ_INPUT_H
#define RVMRPC_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
	const uint8_t *data;
	size_t left;
};

static inline void input_bytes(struct input *in, void *to, size_t n)
{
	size_t have = n < in->left ? n : in->left;

	memset(to, 0, n);
	if (!have)
		return;
	memcpy(to, in->data, have);
	in->data += have;
	in->left -= have;
}

static inline uint32_t input_u8(struct input *in)
{
	uint8_t v;

	input_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint32_t input_u32(struct input *in)
{
	uint32_t v;

	input_bytes(in, &v, sizeof(v));
	return v;
}

/* Changes a few bytes of a good structure, so that single checks are reached behind those that came before. */
static inline void input_corrupt(struct input *in, void *what, size_t size)
{
	uint32_t n = input_u8(in) & 3;
	uint32_t at;

	while (n--) {
		at = input_u8(in) % (uint32_t)size;
		((uint8_t *)what)[at] ^= (uint8_t)input_u8(in);
	}
}

#define CHECK(cond)	do { if (!(cond)) check_failed(__FILE__, __LINE__, #cond); } while (0)

_Noreturn static inline void check_failed(const char *file, int line, const char *cond)
{
	fprintf(stderr, "%s:%d: check failed: %s\n", file, line, cond);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* RVMRPC_FUZZ_INPUT_H */
