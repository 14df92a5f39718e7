/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Reverse VMRPC: the host calls procedures of this guest's kernel.
 *
 * The PCI device brings the window, a doorbell, an interrupt and perhaps a
 * gate.  It is ours, or a stock QEMU's ivshmem-doorbell; see rvmrpc(4).
 */
#include "rvmrpc_drv.h"
#include <dev/pci/pcireg.h>

MALLOC_DEFINE(M_RVMRPC, "rvmrpc", "Reverse VMRPC");

static struct rvmrpc_softc *rvmrpc_device;	/* while it is attached */
static bool rvmrpc_loaded;	/* all parts are there */

/* For procedures that never sleep: they run in the server thread. */
struct rvmrpc_softc *
rvmrpc_server_self(void)
{
	return (rvmrpc_device);
}

/* ---- PCI ---- */

static void
rvmrpc_interrupt(void *arg)
{
	struct rvmrpc_softc *sc = arg;

	rvmrpc_count(sc, RVMRPC_CNT_INTERRUPTS);
	rvmrpc_server_kick(sc);
}

/* For devmatch(8), which loads the module by it. */
static const struct {
	uint16_t	vendor;
	uint16_t	device;
} rvmrpc_ids[] = {
	{ RVMRPC_PCI_VENDOR, RVMRPC_PCI_DEVICE },
	{ RVMRPC_PCI_VENDOR, RVMRPC_IVSHMEM_DEVICE },
};

static bool
rvmrpc_is_ivshmem(device_t dev)
{
	return (pci_get_device(dev) == RVMRPC_IVSHMEM_DEVICE);
}

static int
rvmrpc_probe(device_t dev)
{
	if (!rvmrpc_loaded || pci_get_vendor(dev) != RVMRPC_PCI_VENDOR)
		return (ENXIO);
	if (rvmrpc_is_ivshmem(dev)) {
		if (!rvmrpc_ivshmem_wanted(dev))
			return (ENXIO);
	} else if (pci_get_device(dev) != RVMRPC_PCI_DEVICE)
		return (ENXIO);
	device_set_desc(dev, "Reverse VMRPC");
	return (BUS_PROBE_DEFAULT);
}

/* Of our own device, which may have a gate. */
static int
rvmrpc_check_regs(struct rvmrpc_softc *sc)
{
	uint32_t layout;

	if (rman_get_size(sc->regs) < RVMRPC_REG_SIZE ||
	    bus_read_4(sc->regs, RVMRPC_REG_MAGIC) != RVMRPC_DEV_MAGIC)
		return (ENXIO);
	layout = bus_read_4(sc->regs, RVMRPC_REG_VERSION);
	if (layout != RVMRPC_DEV_VERSION) {
		device_printf(sc->dev, "registers of version %u: this driver "
		    "needs version %u, a device with a window\n", layout,
		    RVMRPC_DEV_VERSION);
		return (ENXIO);
	}
	return (0);
}

static int
rvmrpc_attach_regs(struct rvmrpc_softc *sc)
{
	bool ivshmem = rvmrpc_is_ivshmem(sc->dev);

	sc->regs = rvmrpc_alloc_resource(sc->dev, SYS_RES_MEMORY,
	    PCIR_BAR(RVMRPC_BAR_REGS), RF_ACTIVE);
	if (sc->regs == NULL)
		return (ENXIO);
	sc->ring = ivshmem ? RVMRPC_IVSHMEM_REG_DOORBELL : RVMRPC_REG_RING;
	if (!ivshmem) {
		if (rvmrpc_check_regs(sc) != 0)
			return (ENXIO);
		sc->gate.regs = sc->regs;
	}
	return (rvmrpc_window_attach(sc));
}

static int
rvmrpc_attach_irq(struct rvmrpc_softc *sc)
{
	int count = 1;

	/* The table must be there before a vector is taken. */
	sc->msix = rvmrpc_alloc_resource(sc->dev, SYS_RES_MEMORY,
	    PCIR_BAR(RVMRPC_BAR_MSIX), RF_ACTIVE);
	if (sc->msix == NULL || pci_alloc_msix(sc->dev, &count) != 0)
		return (ENXIO);
	sc->irq = rvmrpc_alloc_resource(sc->dev, SYS_RES_IRQ, 1,
	    RF_ACTIVE);
	if (sc->irq == NULL)
		return (ENXIO);
	return (bus_setup_intr(sc->dev, sc->irq, INTR_TYPE_MISC | INTR_MPSAFE,
	    NULL, rvmrpc_interrupt, sc, &sc->irq_cookie));
}

static void
rvmrpc_release_irq(struct rvmrpc_softc *sc)
{
	if (sc->irq_cookie != NULL)
		bus_teardown_intr(sc->dev, sc->irq, sc->irq_cookie);
	rvmrpc_release_resource(sc->dev, SYS_RES_IRQ, sc->irq);
	pci_release_msi(sc->dev);
	rvmrpc_release_resource(sc->dev, SYS_RES_MEMORY, sc->msix);
	sc->irq_cookie = NULL;
	sc->irq = NULL;
	sc->msix = NULL;
}

/* No thread of ours runs. */
static void
rvmrpc_release(struct rvmrpc_softc *sc)
{
	rvmrpc_device = NULL;
	rvmrpc_release_irq(sc);
	rvmrpc_jobs_free(sc);
	rvmrpc_events_detach();
	rvmrpc_window_detach(sc);
	rvmrpc_release_resource(sc->dev, SYS_RES_MEMORY, sc->regs);
	rvmrpc_gate_destroy(&sc->gate);
	mtx_destroy(&sc->jobs_mtx);
	mtx_destroy(&sc->mtx);
}

static int
rvmrpc_attach(device_t dev)
{
	struct rvmrpc_softc *sc = device_get_softc(dev);
	int error;

	if (rvmrpc_device != NULL) {
		device_printf(dev, "there is another such device\n");
		return (EBUSY);
	}
	sc->dev = dev;
	mtx_init(&sc->mtx, "rvmrpc", NULL, MTX_DEF);
	mtx_init(&sc->jobs_mtx, "rvmrpc jobs", NULL, MTX_DEF);
	LIST_INIT(&sc->orphans);
	rvmrpc_gate_init(&sc->gate, rvmrpc_tun.hypercall != 0);
	error = rvmrpc_attach_regs(sc);
	if (error == 0) {
		pci_enable_busmaster(dev);
		if (rvmrpc_attach_irq(sc) != 0) {
			device_printf(dev,
			    "no MSI-X: polling every 10 ms instead\n");
			rvmrpc_release_irq(sc);
		}
		rvmrpc_device = sc;
		rvmrpc_events_attach(sc);
		error = rvmrpc_server_start(sc);
	}
	if (error != 0) {
		rvmrpc_release(sc);
		return (error);
	}
	rvmrpc_sysctls_add(sc);
	return (0);
}

static int
rvmrpc_detach(device_t dev)
{
	struct rvmrpc_softc *sc = device_get_softc(dev);
	bool suspended;

	/* Before the host hears of it. */
	if (rvmrpc_jobs_hang(sc))
		return (EBUSY);
	suspended = sc->thread == NULL;
	rvmrpc_server_stop(sc, 0);
	if (rvmrpc_jobs_drain(sc) != 0) {
		if (!suspended)
			rvmrpc_server_start(sc);
		return (EBUSY);
	}
	rvmrpc_sysctls_remove(sc);
	rvmrpc_release(sc);
	return (0);
}

/* Before reboot and power-off. */
static int
rvmrpc_shutdown(device_t dev)
{
	struct rvmrpc_softc *sc = device_get_softc(dev);

	/* A thread that is held leaves when it can. */
	if (rvmrpc_server_stop(sc, RVMRPC_STOP_MS) != 0) {
		mtx_lock(&sc->mtx);
		sc->stop = true;
		mtx_unlock(&sc->mtx);
	}
	return (0);
}

static int
rvmrpc_suspend(device_t dev)
{
	return (rvmrpc_server_stop(device_get_softc(dev), RVMRPC_STOP_MS));
}

static int
rvmrpc_resume(device_t dev)
{
	return (rvmrpc_server_start(device_get_softc(dev)));
}

static device_method_t rvmrpc_methods[] = {
	DEVMETHOD(device_probe,		rvmrpc_probe),
	DEVMETHOD(device_attach,	rvmrpc_attach),
	DEVMETHOD(device_detach,	rvmrpc_detach),
	DEVMETHOD(device_shutdown,	rvmrpc_shutdown),
	DEVMETHOD(device_suspend,	rvmrpc_suspend),
	DEVMETHOD(device_resume,	rvmrpc_resume),
	DEVMETHOD_END
};

static driver_t rvmrpc_driver = {
	.name = "rvmrpc",
	.methods = rvmrpc_methods,
	.size = sizeof(struct rvmrpc_softc),
};

/* ---- Module ---- */

struct rvmrpc_part {
	int	(*init)(void);
	void	(*exit)(void);
};

static const struct rvmrpc_part rvmrpc_parts[] = {
	{ rvmrpc_mod_core_init, rvmrpc_mod_core_exit },
	{ rvmrpc_mod_sysinfo_init, rvmrpc_mod_sysinfo_exit },
	{ rvmrpc_mod_reclaim_init, rvmrpc_mod_reclaim_exit },
	{ rvmrpc_mod_sysctl_init, rvmrpc_mod_sysctl_exit },
	{ rvmrpc_mod_pressure_init, rvmrpc_mod_pressure_exit },
	{ rvmrpc_mod_tasks_init, rvmrpc_mod_tasks_exit },
	{ rvmrpc_mod_klog_init, rvmrpc_mod_klog_exit },
	{ rvmrpc_mod_fs_init, rvmrpc_mod_fs_exit },
	{ rvmrpc_mod_net_init, rvmrpc_mod_net_exit },
	{ rvmrpc_mod_clock_init, rvmrpc_mod_clock_exit },
	{ rvmrpc_mod_control_init, rvmrpc_mod_control_exit },
	{ rvmrpc_mod_freeze_init, rvmrpc_mod_freeze_exit },
	{ rvmrpc_mod_files_init, rvmrpc_mod_files_exit },
	{ rvmrpc_event_sources_init, rvmrpc_event_sources_exit },
	{ rvmrpc_user_init, rvmrpc_user_exit },
};

static void
rvmrpc_parts_exit(u_int n)
{
	while (n-- > 0)
		rvmrpc_parts[n].exit();
}

static int
rvmrpc_parts_init(void)
{
	u_int i;
	int error;

	for (i = 0; i < nitems(rvmrpc_parts); i++) {
		error = rvmrpc_parts[i].init();
		if (error != 0) {
			rvmrpc_parts_exit(i);
			return (error);
		}
	}
	return (0);
}

/* Before the device is attached, and after it is detached. */
static int
rvmrpc_modevent(module_t mod __unused, int what, void *arg __unused)
{
	int error;

	switch (what) {
	case MOD_LOAD:
		rvmrpc_server_init(&rvmrpc_registry);
		rvmrpc_tunables_fetch();
		error = rvmrpc_parts_init();
		/* driver_module_handler() forgets it, and goes on. */
		if (error != 0)
			printf("rvmrpc: cannot start: error %d\n", error);
		rvmrpc_loaded = error == 0;
		return (error);
	case MOD_UNLOAD:
		if (rvmrpc_loaded)
			rvmrpc_parts_exit(nitems(rvmrpc_parts));
		return (0);
	case MOD_QUIESCE:
		return (rvmrpc_user_busy());
	case MOD_SHUTDOWN:
		return (0);
	default:
		return (EOPNOTSUPP);
	}
}

RVMRPC_DRIVER_MODULE(rvmrpc, pci, rvmrpc_driver, rvmrpc_modevent);
MODULE_VERSION(rvmrpc, 1);
MODULE_DEPEND(rvmrpc, pci, 1, 1, 1);
MODULE_PNP_INFO("U16:vendor;U16:device", pci, rvmrpc, rvmrpc_ids,
    nitems(rvmrpc_ids));
