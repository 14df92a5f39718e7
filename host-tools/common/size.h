/*
 * Sizes in the tools' options and configurations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TOOLS_SIZE_H
#define TOOLS_SIZE_H

#include <glib.h>

/* "200M" and the like (K, M, G or T, small ones too), in bytes. FALSE: it is none, and *bytes is 0. */
gboolean size_parse(const char *text, guint64 *bytes);

#endif
