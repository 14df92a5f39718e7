/*
 * The rvmrpc command: the XML of libvirt's domains
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef DOMAIN_XML_H
#define DOMAIN_XML_H

#include <glib.h>

typedef enum DomainDevice {
    DOMAIN_IVSHMEM,             /* libvirt's <shmem>; rvmrpcd is its other end */
    DOMAIN_RVMRPC,              /* our QEMU's own device */
} DomainDevice;

/* What a domain's XML says of it.  All are NULL where it says nothing. */
typedef struct DomainFacts {
    char *name, *uuid, *emulator;
    char *server;               /* that its <shmem> of ours connects to */
} DomainFacts;

/* FALSE: @xml is no domain's. */
gboolean domain_xml_facts(const char *xml, DomainFacts *facts, GError **error);
void domain_facts_clear(DomainFacts *facts);
/*
 * What rvmrpcd shall call it; or, with @attached, does, whatever libvirt has
 * called it since.
 */
char *domain_xml_place(const DomainFacts *facts, gboolean attached);

/*
 * The domain's XML with the device; with the same text but for its layout when
 * it has it already.  @path: of the socket that QEMU connects to (IVSHMEM), or
 * makes for clients (RVMRPC).  An error where it has a device that would be
 * in the way.
 */
char *domain_xml_attach(const char *xml, DomainDevice device, const char *path,
                        GError **error);
/* The domain's XML without either device. */
char *domain_xml_detach(const char *xml, GError **error);
/* The same text in their layout, to compare with. */
char *domain_xml_layout(const char *xml, GError **error);
/* The element of IVSHMEM alone, to plug in; the domain's own, to unplug, or NULL. */
char *domain_xml_element(const char *path);
char *domain_xml_our_element(const char *xml);

/* What differs, as diff -u shows it without heads; "" for nothing. */
char *text_diff(const char *before, const char *after);

#endif
