/*
 * The rvmrpc command: the XML of libvirt's domains
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Only reads and writes texts, so that its tests need no libvirt.
 */
#include <string.h>
#include <gio/gio.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include "domain_xml.h"
#include "../common/place.h"

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define SHMEM   "rvmrpc"        /* the name of our <shmem> */
#define SUFFIX  ".ivshmem"      /* of its server's path */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

static gboolean is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE &&
           strcmp((const char *)node->name, name) == 0;
}

/* The first element of that name from @node on among its siblings. */
static xmlNode *find(xmlNode *node, const char *name)
{
    while (node && !is_element(node, name)) {
        node = node->next;
    }
    return node;
}

static char *attribute(xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, BAD_CAST name) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

static char *content(xmlNode *parent, const char *name)
{
    xmlNode *node = find(parent->children, name);
    xmlChar *value = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy ? g_strstrip(copy) : NULL;
}

static gboolean has(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = attribute(node, name);

    return g_strcmp0(text, value) == 0;
}

static xmlDoc *parse(const char *xml, GError **error)
{
    xmlDoc *doc = xmlReadMemory(xml, strlen(xml), "domain.xml", NULL,
                                XML_PARSE_NOBLANKS | XML_PARSE_NONET |
                                XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

    if (!root || !is_element(root, "domain") ||
        !find(root->children, "devices")) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "libvirt's answer is no domain's XML");
        xmlFreeDoc(doc);
        return NULL;
    }
    return doc;
}

static xmlNode *devices_of(xmlDoc *doc)
{
    return find(xmlDocGetRootElement(doc)->children, "devices");
}

static char *text_of(xmlDoc *doc)
{
    xmlNode *root = xmlDocGetRootElement(doc);
    xmlBuffer *buffer = xmlBufferCreate();
    char *text;

    xmlNodeDump(buffer, doc, root, 0, 1);
    text = g_strconcat((const char *)xmlBufferContent(buffer), "\n", NULL);
    xmlBufferFree(buffer);
    return text;
}

/* ---- <shmem> ---- */

static xmlNode *find_shmem(xmlDoc *doc)
{
    xmlNode *node = devices_of(doc)->children;

    while ((node = find(node, "shmem")) && !has(node, "name", SHMEM)) {
        node = node->next;
    }
    return node;
}

static void add_shmem(xmlNode *devices, const char *path)
{
    xmlNode *shmem = xmlNewChild(devices, NULL, BAD_CAST "shmem", NULL);
    xmlNode *node;

    xmlNewProp(shmem, BAD_CAST "name", BAD_CAST SHMEM);
    /* Without it the domain can be neither saved nor migrated. */
    xmlNewProp(shmem, BAD_CAST "role", BAD_CAST "master");
    node = xmlNewChild(shmem, NULL, BAD_CAST "model", NULL);
    xmlNewProp(node, BAD_CAST "type", BAD_CAST "ivshmem-doorbell");
    node = xmlNewChild(shmem, NULL, BAD_CAST "server", NULL);
    xmlNewProp(node, BAD_CAST "path", BAD_CAST path);
    node = xmlNewChild(shmem, NULL, BAD_CAST "msi", NULL);
    xmlNewProp(node, BAD_CAST "vectors", BAD_CAST "1");
    xmlNewProp(node, BAD_CAST "ioeventfd", BAD_CAST "on");
}

static gboolean attach_shmem(xmlDoc *doc, const char *path, GError **error)
{
    xmlNode *shmem = find_shmem(doc);

    if (!shmem) {
        add_shmem(devices_of(doc), path);
        return TRUE;
    }
    if (!has(find(shmem->children, "model"), "type", "ivshmem-doorbell") ||
        !has(find(shmem->children, "server"), "path", path)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    "it has a <shmem name='" SHMEM "'> with another server "
                    "than %s; take that away first ('rvmrpc detach')", path);
        return FALSE;
    }
    return TRUE;
}

/* ---- <qemu:commandline> ---- */

static xmlNode *find_commandline(xmlDoc *doc)
{
    xmlNode *node = xmlDocGetRootElement(doc)->children;

    while ((node = find(node, "commandline")) &&
           !(node->ns && xmlStrEqual(node->ns->href, BAD_CAST QEMU_NS))) {
        node = node->next;
    }
    return node;
}

/* The "-device" before our device. */
static xmlNode *find_arguments(xmlDoc *doc)
{
    xmlNode *commandline = find_commandline(doc);
    xmlNode *node = commandline ? commandline->children : NULL;

    while ((node = find(node, "arg"))) {
        xmlNode *next = find(node->next, "arg");
        g_autofree char *value = attribute(next, "value");

        if (has(node, "value", "-device") && value &&
            (strcmp(value, "rvmrpc") == 0 ||
             g_str_has_prefix(value, "rvmrpc,"))) {
            return node;
        }
        node = node->next;
    }
    return NULL;
}

static void add_argument(xmlNode *commandline, const char *value)
{
    xmlNode *arg = xmlNewChild(commandline, commandline->ns, BAD_CAST "arg",
                               NULL);

    xmlNewProp(arg, BAD_CAST "value", BAD_CAST value);
}

static void attach_arguments(xmlDoc *doc, const char *path)
{
    g_autofree char *device = g_strdup_printf("rvmrpc,socket=%s,"
                                              "socket-mode=0660", path);
    xmlNode *root = xmlDocGetRootElement(doc);
    xmlNode *commandline = find_commandline(doc);

    if (find_arguments(doc)) {
        return;
    }
    if (!commandline) {
        xmlNs *ns = xmlSearchNsByHref(doc, root, BAD_CAST QEMU_NS) ?:
                    xmlNewNs(root, BAD_CAST QEMU_NS, BAD_CAST "qemu");

        commandline = xmlNewChild(root, ns, BAD_CAST "commandline", NULL);
    }
    add_argument(commandline, "-device");
    add_argument(commandline, device);
}

static void drop(xmlNode *node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

static void detach_arguments(xmlDoc *doc)
{
    xmlNode *node = find_arguments(doc);
    xmlNode *commandline = find_commandline(doc);

    if (!node) {
        return;
    }
    drop(find(node->next, "arg"));
    drop(node);
    if (!commandline->children) {
        drop(commandline);
    }
}

/* ---- Facts ---- */

gboolean domain_xml_facts(const char *xml, DomainFacts *facts, GError **error)
{
    g_autoptr(xmlDoc) doc = parse(xml, error);
    xmlNode *shmem;

    if (!doc) {
        return FALSE;
    }
    shmem = find_shmem(doc);
    facts->name = content(xmlDocGetRootElement(doc), "name");
    facts->uuid = content(xmlDocGetRootElement(doc), "uuid");
    facts->emulator = content(devices_of(doc), "emulator");
    facts->server = shmem ? attribute(find(shmem->children, "server"), "path") :
                    NULL;
    return TRUE;
}

void domain_facts_clear(DomainFacts *facts)
{
    g_clear_pointer(&facts->name, g_free);
    g_clear_pointer(&facts->uuid, g_free);
    g_clear_pointer(&facts->emulator, g_free);
    g_clear_pointer(&facts->server, g_free);
}

char *domain_xml_place(const DomainFacts *facts, gboolean attached)
{
    if (attached && facts->server && g_str_has_suffix(facts->server, SUFFIX)) {
        char *name = g_path_get_basename(facts->server);

        name[strlen(name) - strlen(SUFFIX)] = '\0';
        return name;
    }
    return g_strdup(place_name_ok(facts->name) ? facts->name : facts->uuid);
}

/* ---- Both ---- */

char *domain_xml_attach(const char *xml, DomainDevice device, const char *path,
                        GError **error)
{
    g_autoptr(xmlDoc) doc = parse(xml, error);
    gboolean other;

    if (!doc) {
        return NULL;
    }
    other = device == DOMAIN_IVSHMEM ? find_arguments(doc) != NULL :
            find_shmem(doc) != NULL;
    if (other) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                            "it has the other device already, and needs one "
                            "('rvmrpc detach' takes it away)");
        return NULL;
    }
    if (device == DOMAIN_RVMRPC) {
        attach_arguments(doc, path);
    } else if (!attach_shmem(doc, path, error)) {
        return NULL;
    }
    return text_of(doc);
}

char *domain_xml_detach(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = parse(xml, error);
    xmlNode *shmem;

    if (!doc) {
        return NULL;
    }
    shmem = find_shmem(doc);
    if (shmem) {
        drop(shmem);
    }
    detach_arguments(doc);
    return text_of(doc);
}

char *domain_xml_layout(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = parse(xml, error);

    return doc ? text_of(doc) : NULL;
}

char *domain_xml_element(const char *path)
{
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *devices = xmlNewNode(NULL, BAD_CAST "devices");
    char *text;

    add_shmem(devices, path);
    xmlDocSetRootElement(doc, devices->children);
    text = text_of(doc);
    xmlFreeNode(devices);
    return text;
}

char *domain_xml_our_element(const char *xml)
{
    g_autoptr(xmlDoc) doc = parse(xml, NULL);
    xmlNode *shmem = doc ? find_shmem(doc) : NULL;
    xmlBuffer *buffer;
    char *text;

    if (!shmem) {
        return NULL;
    }
    buffer = xmlBufferCreate();
    xmlNodeDump(buffer, doc, shmem, 0, 1);
    text = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}
