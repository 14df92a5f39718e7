/*
 * rvmrpc-exporter: facts as Prometheus' text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef METRICS_H
#define METRICS_H

#include "../common/facts.h"

/* @all: of Facts, of these @kinds; @seconds: what it took to gather them. */
char *metrics_text(const GPtrArray *all, FactsKind kinds, double seconds);

#endif
