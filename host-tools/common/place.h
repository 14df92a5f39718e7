/*
 * Names of VMs with rvmrpcd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef PLACE_H
#define PLACE_H

#include <string.h>
#include <glib.h>

#define PLACE_MAX_BYTES 64

/* It becomes part of files' names, of systemd's store, and of log lines. */
static inline gboolean place_name_ok(const char *name)
{
    return strlen(name) <= PLACE_MAX_BYTES && g_ascii_isalnum(name[0]) &&
           strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._+@-") ==
           strlen(name);
}

#endif
