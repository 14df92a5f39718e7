/*
 * Sizes in the tools' options and configurations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>
#include "size.h"

gboolean size_parse(const char *text, guint64 *bytes)
{
    static const char units[] = "KMGT";
    const char *unit;
    guint64 value;
    guint shift = 0;
    char *end;

    *bytes = 0;
    if (!g_ascii_isdigit(*text)) {
        return FALSE;
    }
    errno = 0;
    value = g_ascii_strtoull(text, &end, 10);
    unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
    if (unit) {
        shift = 10 * (unit - units + 1);
        end++;
    }
    if (errno || *end || value > G_MAXUINT64 >> shift) {
        return FALSE;
    }
    *bytes = value << shift;
    return TRUE;
}
