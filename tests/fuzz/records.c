// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Lists of records: a guest's bytes as the host's reader takes them, and any request and content as the guest's writer
 * does: what it writes the reader must take.
 */
#include "input.h"
#include "rvmrpc_reader.h"
#include "rvmrpc_records.h"

static void check_reader(const uint8_t *data, size_t size)
{
	/* A copy of exactly this size: ASan sees the first byte behind it. */
	uint8_t *copy = malloc(size ? size : 1);
	uint32_t records = 0, sum = 0, i;
	struct rvmrpc_reader r;

	memcpy(copy, data, size);
	if (rvmrpc_reader_open(&r, copy, size)) {
		for (; rvmrpc_reader_record(&r); records++) {
			while (rvmrpc_reader_field(&r)) {
				for (i = 0; i < r.length; i++)
					sum += r.value[i];
			}
		}
		CHECK(!r.malformed && records == r.head.count);
	}
	/* Not to be optimized away. */
	CHECK(sum != 1 || records);
	free(copy);
}

static void write_record(struct rvmrpc_record_writer *w, struct input *in)
{
	uint8_t bytes[256];
	uint32_t fields = input_u8(in) % 8;

	rvmrpc_record_begin(w, (uint16_t)input_u32(in));
	while (fields--) {
		uint32_t length = input_u8(in);

		input_bytes(in, bytes, length);
		if (length % 3 == 0)
			rvmrpc_record_u64(w, input_u8(in), length);
		else
			rvmrpc_record_string(w, input_u8(in), (char *)bytes, length);
	}
}

static void check_writer(struct input *in)
{
	uint32_t bytes = input_u32(in) % 2048, cursor = 1, count = 0;
	struct rvmrpc_response res = { .resmax = bytes, .res = malloc(bytes + 1) };
	struct rvmrpc_records_req wanted;
	struct rvmrpc_request req = { .arg = &wanted, .arglen = input_u8(in) & 1 ? sizeof(wanted) : 0 };
	struct rvmrpc_record_writer w;
	struct rvmrpc_reader r;

	input_bytes(in, &wanted, sizeof(wanted));
	if (rvmrpc_records_begin(&w, &req, &res, 3) == RVMRPC_STATUS_OK) {
		for (; in->left && cursor < 100; cursor++) {
			write_record(&w, in);
			if (!rvmrpc_record_end(&w, cursor))
				break;
			count++;
		}
		if (rvmrpc_records_end(&w) == RVMRPC_STATUS_OK) {
			CHECK(res.reslen <= bytes);
			CHECK(rvmrpc_reader_open(&r, res.res, res.reslen));
			CHECK(r.head.count == count);
			CHECK(!(r.head.flags & RVMRPC_RECORDS_MORE) || (count && r.head.next == cursor));
		}
	}
	free(res.res);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	if (input_u8(&in) & 1)
		check_reader(in.data, in.left);
	else
		check_writer(&in);
	return 0;
}
