/*
 * JSON that another process wrote
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A member of the wrong type counts as absent: json-glib's own functions give NULL for some, and complain to the log.
 */
#include "json.h"

static JsonNode *member_of_type(JsonObject *obj, const char *name, GType type)
{
    JsonNode *node = obj ? json_object_get_member(obj, name) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node : NULL;
}

JsonObject *member_object(JsonObject *obj, const char *name)
{
    JsonNode *node = obj ? json_object_get_member(obj, name) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

const char *member_text(JsonObject *obj, const char *name, const char *absent)
{
    JsonNode *node = member_of_type(obj, name, G_TYPE_STRING);

    return node ? json_node_get_string(node) : absent;
}

gint64 member_int(JsonObject *obj, const char *name, gint64 absent)
{
    JsonNode *node = member_of_type(obj, name, G_TYPE_INT64);

    return node ? json_node_get_int(node) : absent;
}

double member_double(JsonObject *obj, const char *name, double absent)
{
    JsonNode *node = member_of_type(obj, name, G_TYPE_DOUBLE);

    return node ? json_node_get_double(node) : member_int(obj, name, absent);
}

gboolean member_bool(JsonObject *obj, const char *name, gboolean absent)
{
    JsonNode *node = member_of_type(obj, name, G_TYPE_BOOLEAN);

    return node ? json_node_get_boolean(node) : absent;
}

JsonObject *parse_object(JsonParser *parser, const char *text)
{
    JsonNode *root = NULL;

    if (json_parser_load_from_data(parser, text, -1, NULL)) {
        root = json_parser_get_root(parser);
    }
    return root && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
}
