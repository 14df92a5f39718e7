/*
 * JSON that another process wrote
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef JSON_H
#define JSON_H

#include <json-glib/json-glib.h>

/* Of that type, else NULL or @absent. @obj may be NULL. What is returned is the object's. */
JsonObject *member_object(JsonObject *obj, const char *name);
const char *member_text(JsonObject *obj, const char *name, const char *absent);
gint64 member_int(JsonObject *obj, const char *name, gint64 absent);
/* A whole number will do. */
double member_double(JsonObject *obj, const char *name, double absent);
gboolean member_bool(JsonObject *obj, const char *name, gboolean absent);
/* An object in the parser's memory; NULL: @text is none. */
JsonObject *parse_object(JsonParser *parser, const char *text);

#endif
