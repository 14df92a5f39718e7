/*
 * Reverse VMRPC: text that comes from elsewhere
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "rvmrpc_text.h"

/* Beyond ASCII, of which g_strescape() knows enough. */
static bool may_pass(gunichar c)
{
    return c >= 0xa0 && c != 0x061c && !(c >= 0x200e && c <= 0x200f) &&
           !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

/* As many bytes as there are: one alone takes most of a microsecond. */
static void append_escaped(GString *out, const char *bytes, size_t len)
{
    g_autofree char *raw = g_strndup(bytes, len);
    g_autofree char *escaped = g_strescape(raw, "\"");

    g_string_append(out, escaped);
}

char *rvmrpc_text(const char *text, size_t len)
{
    const char *end = text + strnlen(text, len);
    const char *from = text;            /* what is to be escaped */
    GString *out = g_string_new(NULL);

    while (text < end) {
        gunichar c = g_utf8_get_char_validated(text, end - text);
        size_t size = (gint32)c < 0 ? 1 : g_utf8_skip[(guint8)*text];

        if ((gint32)c >= 0 && may_pass(c)) {
            if (from < text) {
                append_escaped(out, from, text - from);
            }
            g_string_append_len(out, text, size);
            from = text + size;
        }
        text += size;
    }
    append_escaped(out, from, end - from);
    return g_string_free(out, FALSE);
}

bool rvmrpc_parse_mode(const char *text, uint32_t *mode)
{
    size_t digits = strspn(text, "01234567");

    if (text[digits] || digits < 3 || digits > 4 ||
        (digits == 4 && text[0] != '0')) {
        return false;
    }
    *mode = g_ascii_strtoull(text, NULL, 8);
    return true;
}
