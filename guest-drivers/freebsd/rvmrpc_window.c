/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The window: BAR 2 of our own device, or of a stock QEMU's ivshmem-doorbell.
 *
 * Other users of ivshmem have the same PCI ID, so nothing is written to such a
 * device and nothing of it is changed before one page of its memory was read
 * and has our magic.  The magic authenticates nobody.
 */
#include "rvmrpc_drv.h"
#include <dev/pci/pcireg.h>
#include <vm/vm.h>

CTASSERT(RVMRPC_BAR_REGS == RVMRPC_IVSHMEM_BAR_REGS &&
    RVMRPC_BAR_WINDOW == RVMRPC_IVSHMEM_BAR_WINDOW);

/* Maps the first bytes, 0 for all, and looks whether it is a window. */
static uint32_t
rvmrpc_window_look(device_t dev, struct resource *r, rman_res_t length,
    struct resource_map *map, struct rvmrpc_window_id *id)
{
	struct resource_map_request args;
	struct rvmrpc_window win;

	map->r_vaddr = NULL;
	win.size = rman_get_size(r);
	if (win.size < RVMRPC_WINDOW_SIZE_MIN ||
	    win.size > RVMRPC_WINDOW_SIZE_MAX)
		return (RVMRPC_HELLO_BAD_ARGS);
	/* Of an I/O device by its place, but this is RAM of the host. */
	resource_init_map_request(&args);
	args.length = length;
	args.memattr = VM_MEMATTR_WRITE_BACK;
	if (rvmrpc_map_resource(dev, r, &args, map) != 0) {
		map->r_vaddr = NULL;
		return (RVMRPC_HELLO_BAD_ARGS);
	}
	win.base = map->r_vaddr;
	return (rvmrpc_guest_probe(&win, id));
}

static void
rvmrpc_window_unlook(device_t dev, struct resource *r,
    struct resource_map *map)
{
	if (map->r_vaddr != NULL)
		rvmrpc_unmap_resource(dev, r, map);
	map->r_vaddr = NULL;
}

/* ---- Whose ivshmem is it? ---- */

static uint32_t
rvmrpc_ivshmem_position(device_t dev)
{
	struct resource *regs = rvmrpc_alloc_resource(dev, SYS_RES_MEMORY,
	    PCIR_BAR(RVMRPC_BAR_REGS), RF_ACTIVE);
	uint32_t position = ~0u;

	if (regs != NULL)
		position = bus_read_4(regs, RVMRPC_IVSHMEM_REG_POSITION);
	rvmrpc_release_resource(dev, SYS_RES_MEMORY, regs);
	return (position);
}

static bool
rvmrpc_ivshmem_has_window(device_t dev)
{
	struct resource *r = rvmrpc_alloc_resource(dev, SYS_RES_MEMORY,
	    PCIR_BAR(RVMRPC_BAR_WINDOW), RF_ACTIVE | RF_UNMAPPED);
	uint32_t status = RVMRPC_HELLO_BAD_ARGS;
	struct resource_map map;
	struct rvmrpc_window_id id;

	if (r != NULL) {
		status = rvmrpc_window_look(dev, r, PAGE_SIZE, &map, &id);
		rvmrpc_window_unlook(dev, r, &map);
	}
	rvmrpc_release_resource(dev, SYS_RES_MEMORY, r);
	if (status == RVMRPC_HELLO_BAD_VERSION)
		device_printf(dev, "window of layout %u, ABI %u to %u: "
		    "not for this driver\n", id.layout, id.abi_min,
		    id.abi_max);
	return (status == RVMRPC_HELLO_OK);
}

/* Probe: whether an ivshmem device is a channel. */
bool
rvmrpc_ivshmem_wanted(device_t dev)
{
	char how[8] = "auto";
	int cap;

	TUNABLE_STR_FETCH("hw.rvmrpc.ivshmem", how, sizeof(how));
	/* Firmware has switched it on, or nobody can have written there. */
	return (strcmp(how, "auto") == 0 &&
	    pci_find_device(RVMRPC_PCI_VENDOR, RVMRPC_PCI_DEVICE) == NULL &&
	    pci_find_cap(dev, PCIY_MSIX, &cap) == 0 &&
	    (pci_read_config(dev, PCIR_COMMAND, 2) & PCIM_CMD_MEMEN) != 0 &&
	    rvmrpc_ivshmem_position(dev) == RVMRPC_IVSHMEM_ID_GUEST &&
	    rvmrpc_ivshmem_has_window(dev));
}

/* ---- The device's ---- */

int
rvmrpc_window_attach(struct rvmrpc_softc *sc)
{
	struct rvmrpc_window_id id;

	sc->window = rvmrpc_alloc_resource(sc->dev, SYS_RES_MEMORY,
	    PCIR_BAR(RVMRPC_BAR_WINDOW), RF_ACTIVE | RF_UNMAPPED);
	if (sc->window == NULL || rvmrpc_window_look(sc->dev, sc->window, 0,
	    &sc->map, &id) != RVMRPC_HELLO_OK) {
		device_printf(sc->dev, "no window that this driver knows\n");
		return (ENXIO);
	}
	sc->ring_value = id.doorbell;
	return (0);
}

void
rvmrpc_window_detach(struct rvmrpc_softc *sc)
{
	if (sc->window != NULL)
		rvmrpc_window_unlook(sc->dev, sc->window, &sc->map);
	rvmrpc_release_resource(sc->dev, SYS_RES_MEMORY, sc->window);
}

/* Any thread. */
void
rvmrpc_window_ring(struct rvmrpc_softc *sc)
{
	rvmrpc_count(sc, RVMRPC_CNT_RINGS);
	bus_write_4(sc->regs, sc->ring, sc->ring_value);
}

/*
 * QEMU's ivshmem binds an irqfd when MSI-X is switched on, and after a state
 * was loaded it has none; until then interrupts are lost.  A new epoch may
 * mean just that.
 */
void
rvmrpc_window_rebind_irq(struct rvmrpc_softc *sc)
{
	uint32_t flags, masked;
	int at;

	if (sc->irq == NULL || pci_find_cap(sc->dev, PCIY_MSIX, &at) != 0)
		return;
	at += PCIR_MSIX_CTRL;
	flags = pci_read_config(sc->dev, at, 2);
	masked = flags | PCIM_MSIXCTRL_FUNCTION_MASK;
	pci_write_config(sc->dev, at, masked, 2);
	pci_write_config(sc->dev, at, masked & ~PCIM_MSIXCTRL_MSIX_ENABLE, 2);
	pci_write_config(sc->dev, at, masked, 2);
	pci_write_config(sc->dev, at, flags, 2);
}
