/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Tunables hw.rvmrpc.*, and parameters, state and counters as
 * dev.rvmrpc.0.*.
 */
#include "rvmrpc_drv.h"
#include <sys/priv.h>

#define	RVMRPC_SPIN_US		200
#define	RVMRPC_IDLE_US		50
#define	RVMRPC_WATCHDOG_MS	2000

/* ---- Parameters ---- */

/* A list that was to take something away must not leave the default. */
static void
rvmrpc_allow_fetch(const char *name, int (*set)(const char *))
{
	char text[RVMRPC_ALLOW_MAX];

	if (TUNABLE_STR_FETCH(name, text, sizeof(text)) && set(text) != 0) {
		printf("rvmrpc: %s cannot be read, and allows nothing\n",
		    name);
		(void)set("");
	}
}

struct rvmrpc_tunables rvmrpc_tun = {
	.spin_us = RVMRPC_SPIN_US,
	.vmlp_idle_us = RVMRPC_IDLE_US,
	.cpu = -1,
	.watchdog_ms = RVMRPC_WATCHDOG_MS,
	.events = 1,
	.hypercall = 1,
};

/* At load: what was changed since outlives a device that goes and comes. */
void
rvmrpc_tunables_fetch(void)
{
	TUNABLE_INT_FETCH("hw.rvmrpc.spin_us", &rvmrpc_tun.spin_us);
	TUNABLE_INT_FETCH("hw.rvmrpc.vmlp_idle_us", &rvmrpc_tun.vmlp_idle_us);
	TUNABLE_INT_FETCH("hw.rvmrpc.cpu", &rvmrpc_tun.cpu);
	TUNABLE_INT_FETCH("hw.rvmrpc.watchdog_ms", &rvmrpc_tun.watchdog_ms);
	TUNABLE_INT_FETCH("hw.rvmrpc.events", &rvmrpc_tun.events);
	TUNABLE_INT_FETCH("hw.rvmrpc.hypercall", &rvmrpc_tun.hypercall);
	TUNABLE_INT_FETCH("hw.rvmrpc.user", &rvmrpc_tun.user);
	rvmrpc_allow_fetch("hw.rvmrpc.allow", rvmrpc_allow_set);
	rvmrpc_allow_fetch("hw.rvmrpc.sysctl_allow", rvmrpc_sysctl_allow_set);
	rvmrpc_allow_fetch("hw.rvmrpc.fs_allow", rvmrpc_fs_allow_set);
	rvmrpc_allow_fetch("hw.rvmrpc.fs_write", rvmrpc_fs_write_set);
}

/* An integer from -1 on that the server thread looks at again. */
static int
rvmrpc_sysctl_int(SYSCTL_HANDLER_ARGS)
{
	struct rvmrpc_softc *sc = arg1;
	int *parameter = (int *)((char *)&rvmrpc_tun + arg2);
	int value = *parameter;
	int error;

	error = sysctl_handle_int(oidp, &value, 0, req);
	if (error != 0 || req->newptr == NULL)
		return (error);
	if (value < -1)
		return (EINVAL);
	*parameter = value;
	rvmrpc_server_kick(sc);
	return (0);
}

static int
rvmrpc_sysctl_list(struct sysctl_oid *oidp, struct sysctl_req *req,
    void (*get)(char *), int (*set)(const char *))
{
	char *text = malloc(RVMRPC_ALLOW_MAX, M_RVMRPC, M_WAITOK | M_ZERO);
	int error;

	get(text);
	error = sysctl_handle_string(oidp, text, RVMRPC_ALLOW_MAX, req);
	if (error == 0 && req->newptr != NULL)
		error = set(text);
	free(text, M_RVMRPC);
	return (error);
}

static int
rvmrpc_sysctl_allow(SYSCTL_HANDLER_ARGS)
{
	return (rvmrpc_sysctl_list(oidp, req, rvmrpc_allow_get,
	    rvmrpc_allow_set));
}

static int
rvmrpc_sysctl_sysctl_allow(SYSCTL_HANDLER_ARGS)
{
	return (rvmrpc_sysctl_list(oidp, req, rvmrpc_sysctl_allow_get,
	    rvmrpc_sysctl_allow_set));
}

static int
rvmrpc_sysctl_fs_allow(SYSCTL_HANDLER_ARGS)
{
	return (rvmrpc_sysctl_list(oidp, req, rvmrpc_fs_allow_get,
	    rvmrpc_fs_allow_set));
}

static int
rvmrpc_sysctl_fs_write(SYSCTL_HANDLER_ARGS)
{
	return (rvmrpc_sysctl_list(oidp, req, rvmrpc_fs_write_get,
	    rvmrpc_fs_write_set));
}

static void
rvmrpc_add_int(struct rvmrpc_softc *sc, const char *name, size_t offset,
    const char *what)
{
	SYSCTL_ADD_PROC(&sc->sysctls,
	    SYSCTL_CHILDREN(device_get_sysctl_tree(sc->dev)), OID_AUTO, name,
	    CTLTYPE_INT | CTLFLAG_RW | CTLFLAG_MPSAFE, sc, offset,
	    rvmrpc_sysctl_int, "I", what);
}

static void
rvmrpc_add_parameters(struct rvmrpc_softc *sc)
{
	struct sysctl_ctx_list *ctx = &sc->sysctls;
	struct sysctl_oid_list *top =
	    SYSCTL_CHILDREN(device_get_sysctl_tree(sc->dev));

	rvmrpc_add_int(sc, "spin_us", offsetof(struct rvmrpc_tunables, spin_us),
	    "look for the next call for at most this long after a call");
	rvmrpc_add_int(sc, "vmlp_idle_us",
	    offsetof(struct rvmrpc_tunables, vmlp_idle_us),
	    "wait in the host for this long after a call; 0 never, -1 always");
	rvmrpc_add_int(sc, "cpu", offsetof(struct rvmrpc_tunables, cpu),
	    "CPU of the server thread, -1 any");
	rvmrpc_add_int(sc, "watchdog_ms",
	    offsetof(struct rvmrpc_tunables, watchdog_ms),
	    "say hello again so long after all workers are overdue, -1 never");
	rvmrpc_add_int(sc, "events", offsetof(struct rvmrpc_tunables, events),
	    "tell the host of what happens; 0 never");
	SYSCTL_ADD_PROC(ctx, top, OID_AUTO, "allow",
	    CTLTYPE_STRING | CTLFLAG_RW | CTLFLAG_MPSAFE, sc, 0,
	    rvmrpc_sysctl_allow, "A", "procedures the host may call");
	SYSCTL_ADD_PROC(ctx, top, OID_AUTO, "sysctl_allow",
	    CTLTYPE_STRING | CTLFLAG_RW | CTLFLAG_MPSAFE, sc, 0,
	    rvmrpc_sysctl_sysctl_allow, "A", "variables the host may read");
	SYSCTL_ADD_PROC(ctx, top, OID_AUTO, "fs_allow",
	    CTLTYPE_STRING | CTLFLAG_RW | CTLFLAG_MPSAFE, sc, 0,
	    rvmrpc_sysctl_fs_allow, "A", "folders whose files the host may read");
	SYSCTL_ADD_PROC(ctx, top, OID_AUTO, "fs_write",
	    CTLTYPE_STRING | CTLFLAG_RW | CTLFLAG_MPSAFE, sc, 0,
	    rvmrpc_sysctl_fs_write, "A", "of these, those it may change");
}

/* ---- State ---- */

enum rvmrpc_shown {
	RVMRPC_SHOW_STATE,
	RVMRPC_SHOW_GATE,
	RVMRPC_SHOW_WAIT,
};

static int
rvmrpc_sysctl_show(SYSCTL_HANDLER_ARGS)
{
	static const char * const states[] = {
		[RVMRPC_STATE_STOPPED] = "stopped",
		[RVMRPC_STATE_DISCONNECTED] = "disconnected",
		[RVMRPC_STATE_CONNECTED] = "connected",
		[RVMRPC_STATE_LEFT] = "left",
	};
	static const char * const gates[] = {
		[RVMRPC_GATE_KIND_NONE] = "none",
		[RVMRPC_GATE_KIND_HYPERCALL] = "hypercall",
		[RVMRPC_GATE_KIND_DOORBELL] = "doorbell",
	};
	struct rvmrpc_softc *sc = arg1;
	const char *text;

	switch (arg2) {
	case RVMRPC_SHOW_STATE:
		text = states[sc->state];
		break;
	case RVMRPC_SHOW_GATE:
		text = gates[sc->gate.kind];
		break;
	default:
		text = rvmrpc_wait_mode(sc);
	}
	return (SYSCTL_OUT(req, text, strlen(text) + 1));
}

static int
rvmrpc_sysctl_epoch(SYSCTL_HANDLER_ARGS)
{
	struct rvmrpc_softc *sc = arg1;
	int error = priv_check(req->td, PRIV_DRIVER);

	if (error != 0)
		return (error);
	return (sysctl_handle_64(oidp,
	    __DEVOLATILE(uint64_t *, &sc->epoch), 0, req));
}

static void
rvmrpc_add_state(struct rvmrpc_softc *sc)
{
	static const struct {
		const char	*name;
		const char	*what;
		enum rvmrpc_shown shown;
	} shown[] = {
		{ "state", "registration with the host", RVMRPC_SHOW_STATE },
		{ "gate", "calls of the host besides", RVMRPC_SHOW_GATE },
		{ "wait", "how calls are waited for", RVMRPC_SHOW_WAIT },
	};
	struct sysctl_ctx_list *ctx = &sc->sysctls;
	struct sysctl_oid_list *top =
	    SYSCTL_CHILDREN(device_get_sysctl_tree(sc->dev));
	u_int i;

	for (i = 0; i < nitems(shown); i++)
		SYSCTL_ADD_PROC(ctx, top, OID_AUTO, shown[i].name,
		    CTLTYPE_STRING | CTLFLAG_RD | CTLFLAG_MPSAFE, sc,
		    shown[i].shown, rvmrpc_sysctl_show, "A", shown[i].what);
	SYSCTL_ADD_STRING(ctx, top, OID_AUTO, "window", CTLFLAG_RD,
	    "write-back", 0, "how it is mapped");
	/* It tells a guest's calls from forged ones: not for everybody. */
	SYSCTL_ADD_PROC(ctx, top, OID_AUTO, "epoch",
	    CTLTYPE_U64 | CTLFLAG_RD | CTLFLAG_MPSAFE, sc, 0,
	    rvmrpc_sysctl_epoch, "QU", "of the registration, for root");
	SYSCTL_ADD_UINT(ctx, top, OID_AUTO, "slots", CTLFLAG_RD,
	    __DEVOLATILE(u_int *, &sc->nslots), 0, "calls at a time");
	SYSCTL_ADD_UINT(ctx, top, OID_AUTO, "abandoned", CTLFLAG_RD,
	    __DEVOLATILE(u_int *, &sc->abandoned), 0,
	    "workers left behind with stuck procedures");
}

/* ---- Counters, since the device was attached ---- */

static void
rvmrpc_add_counters(struct rvmrpc_softc *sc)
{
	static const struct {
		const char	*name;
		const char	*what;
	} names[RVMRPC_CNT_MAX] = {
		[RVMRPC_CNT_CALLS] = { "calls", "accepted or refused" },
		[RVMRPC_CNT_REFUSED] = { "refused", "calls" },
		[RVMRPC_CNT_WORKERS] = { "workers", "calls that got one" },
		[RVMRPC_CNT_WAITS] = { "waits", "in the host" },
		[RVMRPC_CNT_SLEEPS] = { "sleeps", "of the server thread" },
		[RVMRPC_CNT_INTERRUPTS] = { "interrupts", "of the device" },
		[RVMRPC_CNT_CONNECTS] = { "connects", "epochs" },
		[RVMRPC_CNT_RESETS] = { "resets", "epochs that broke off" },
		[RVMRPC_CNT_LATE] = { "late", "replies of an epoch that ended" },
		[RVMRPC_CNT_MALFORMED] = { "malformed", "requests, unanswered" },
		[RVMRPC_CNT_RINGS] = { "rings", "of the host" },
		[RVMRPC_CNT_SPINS] = { "spins", "that brought a request" },
		[RVMRPC_CNT_WATCHDOG] = { "watchdog", "times all workers hung" },
		[RVMRPC_CNT_EVENTS] = { "events", "told" },
		[RVMRPC_CNT_ERRORS] = { "errors", "of waits in the host" },
	};
	struct sysctl_ctx_list *ctx = &sc->sysctls;
	struct sysctl_oid *node;
	u_int i;

	node = SYSCTL_ADD_NODE(ctx,
	    SYSCTL_CHILDREN(device_get_sysctl_tree(sc->dev)), OID_AUTO,
	    "counters", CTLFLAG_RD, NULL, "since the device was attached");
	for (i = 0; i < RVMRPC_CNT_MAX; i++)
		SYSCTL_ADD_ULONG(ctx, SYSCTL_CHILDREN(node), OID_AUTO,
		    names[i].name, CTLFLAG_RD, &sc->counters[i],
		    names[i].what);
}

/*
 * In a list of their own: newbus frees the softc before it takes the device's
 * variables away.
 */
void
rvmrpc_sysctls_add(struct rvmrpc_softc *sc)
{
	sysctl_ctx_init(&sc->sysctls);
	rvmrpc_add_parameters(sc);
	rvmrpc_add_state(sc);
	rvmrpc_add_counters(sc);
}

/* Waits for whoever is in one of them. */
void
rvmrpc_sysctls_remove(struct rvmrpc_softc *sc)
{
	sysctl_ctx_free(&sc->sysctls);
}
