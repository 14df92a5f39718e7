/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What rvmrpc attach and detach make of a domain's XML, and how they show it. */
#include <string.h>
#include <gio/gio.h>

#include "domain_xml.h"

#define PATH	"/run/rvmrpcd/web1.ivshmem"
#define SOCK	"/run/rvmrpc/web1.sock"
#define UUID	"6f0b0ec1-5f0d-4f6a-9c0a-2f4a4dbd6f01"
#define NS	" xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

#define DOMAIN(ns, devices, rest)						\
	"<domain type='kvm'" ns "><name>web1</name><uuid>" UUID "</uuid>"	\
	"<description>a &lt;b&gt; &#34;c&#34;  d\n e</description>"		\
	"<devices><emulator>/usr/bin/qemu</emulator>" devices "</devices>" rest "</domain>"

#define PLAIN	DOMAIN("", "", "")
#define OTHERS	DOMAIN(NS, "<shmem name='looking-glass'><model type='ivshmem-plain'/></shmem>",		\
		       "<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='rvmrpc,x'/>"	\
		       "</qemu:commandline>")

static char *layout(const char *xml)
{
	char *text = domain_xml_layout(xml, NULL);

	g_assert_nonnull(text);
	return text;
}

static char *attached(const char *xml, DomainDevice device)
{
	g_autoptr(GError) error = NULL;
	char *text = domain_xml_attach(xml, device, device == DOMAIN_IVSHMEM ? PATH : SOCK, &error);

	g_assert_no_error(error);
	return text;
}

/* There and back, twice; nothing else moves. */
static void test_round(void)
{
	const char *const domains[] = { PLAIN, OTHERS };
	const DomainDevice devices[] = { DOMAIN_IVSHMEM, DOMAIN_RVMRPC };

	for (guint i = 0; i < G_N_ELEMENTS(domains); i++) {
		for (guint j = 0; j < G_N_ELEMENTS(devices); j++) {
			g_autofree char *before = layout(domains[i]);
			g_autofree char *once = attached(domains[i], devices[j]);
			g_autofree char *again = attached(once, devices[j]);
			g_autofree char *back = domain_xml_detach(once, NULL);
			g_autofree char *same = domain_xml_detach(before, NULL);

			g_assert_cmpstr(once, !=, before);
			g_assert_cmpstr(again, ==, once);
			g_assert_cmpstr(same, ==, before);
			g_assert_nonnull(strstr(once, devices[j] == DOMAIN_IVSHMEM ? PATH : SOCK));
			/* libvirt drops a name space that nobody uses; libxml2 does not. */
			if (strstr(domains[i], NS) || devices[j] == DOMAIN_IVSHMEM)
				g_assert_cmpstr(back, ==, before);
			else
				g_assert_null(strstr(back, "qemu:arg"));
		}
	}
}

static void test_element(void)
{
	g_autofree char *alone = domain_xml_element(PATH);
	g_autofree char *domain = attached(OTHERS, DOMAIN_IVSHMEM);
	g_autofree char *ours = domain_xml_our_element(domain);

	g_assert_nonnull(strstr(alone, "<shmem name=\"rvmrpc\" role=\"master\">"));
	g_assert_nonnull(strstr(alone, "<server path=\"" PATH "\"/>"));
	g_assert_cmpstr(g_strchomp(alone), ==, g_strchomp(ours));
	g_assert_null(domain_xml_our_element(OTHERS));
}

static void refused(const char *xml, DomainDevice device, const char *path, int code, const char *word)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(domain_xml_attach(xml, device, path, &error));
	g_assert_error(error, G_IO_ERROR, code);
	g_assert_nonnull(strstr(error->message, word));
}

/* One device of both, one server of it; and what is no domain. */
static void test_refused(void)
{
	g_autofree char *shmem = attached(PLAIN, DOMAIN_IVSHMEM);
	g_autofree char *device = attached(PLAIN, DOMAIN_RVMRPC);
	static const char *const bad[] = { "", "<domain>", "<domain/>", "<network><devices/></network>", "no XML" };

	refused(shmem, DOMAIN_RVMRPC, SOCK, G_IO_ERROR_EXISTS, "other device");
	refused(device, DOMAIN_IVSHMEM, PATH, G_IO_ERROR_EXISTS, "other device");
	refused(shmem, DOMAIN_IVSHMEM, "/run/elsewhere", G_IO_ERROR_EXISTS, "/run/elsewhere");
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		refused(bad[i], DOMAIN_IVSHMEM, PATH, G_IO_ERROR_INVALID_DATA, "no domain's XML");
		g_assert_null(domain_xml_detach(bad[i], &error));
		g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
	}
}

static void test_facts(void)
{
	DomainFacts facts = { 0 };

	g_assert_true(domain_xml_facts(PLAIN, &facts, NULL));
	g_assert_cmpstr(facts.name, ==, "web1");
	g_assert_cmpstr(facts.uuid, ==, UUID);
	g_assert_cmpstr(facts.emulator, ==, "/usr/bin/qemu");
	g_assert_null(facts.server);
	domain_facts_clear(&facts);
	g_assert_true(domain_xml_facts("<domain><devices/></domain>", &facts, NULL));
	g_assert_null(facts.name);
	g_assert_null(facts.emulator);
	domain_facts_clear(&facts);
}

static void placed(const char *name, const char *server, gboolean attached, const char *expected)
{
	DomainFacts facts = { .name = (char *)name, .uuid = UUID, .server = (char *)server };
	g_autofree char *place = domain_xml_place(&facts, attached);

	g_assert_cmpstr(place, ==, expected);
}

/* rvmrpcd reads no VM's file any more when the name in one is not to its liking. */
static void test_place(void)
{
	g_autofree char *longest = g_strnfill(64, 'a'), *longer = g_strnfill(65, 'a');
	g_autofree char *attached_xml = attached(PLAIN, DOMAIN_IVSHMEM);
	DomainFacts facts = { 0 };

	placed("web1", NULL, FALSE, "web1");
	placed("1._+@-", NULL, FALSE, "1._+@-");
	placed(longest, NULL, FALSE, longest);
	placed(longer, NULL, FALSE, UUID);
	for (const char *first = "._+@-"; *first; first++) {
		g_autofree char *name = g_strdup_printf("%cweb", *first);

		placed(name, NULL, FALSE, UUID);
	}
	placed("web 1", NULL, FALSE, UUID);
	placed("", NULL, FALSE, UUID);
	/* Renamed since. */
	placed("web2", PATH, TRUE, "web1");
	placed("web2", PATH, FALSE, "web2");
	placed("web2", "/run/other", TRUE, "web2");
	g_assert_true(domain_xml_facts(attached_xml, &facts, NULL));
	g_assert_cmpstr(facts.server, ==, PATH);
	domain_facts_clear(&facts);
}

static void differ(const char *before, const char *after, const char *expected)
{
	g_autofree char *diff = text_diff(before, after);

	g_assert_cmpstr(diff, ==, expected);
}

/* Three lines around each change, and a mark between places. */
static void test_diff(void)
{
	differ("a\nb\n", "a\nb\n", "");
	differ("", "", "");
	differ("a\n", "b\n", "-a\n+b\n");
	differ("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nx\n5\n", " 2\n 3\n 4\n+x\n 5\n");
	differ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "2\n3\n4\n5\n6\n7\n8\n9\n0\n",
	       "-1\n 2\n 3\n 4\n@@\n 7\n 8\n 9\n+0\n");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/domain-xml/round", test_round);
	g_test_add_func("/domain-xml/element", test_element);
	g_test_add_func("/domain-xml/refused", test_refused);
	g_test_add_func("/domain-xml/facts", test_facts);
	g_test_add_func("/domain-xml/place", test_place);
	g_test_add_func("/domain-xml/diff", test_diff);
	return g_test_run();
}
