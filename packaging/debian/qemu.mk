#!/usr/bin/make -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# qemu-system-x86-rvmrpc: Debian's source of QEMU in upstream/, our files and
# patches staged onto it, and Debian's own rules to configure it, so that it
# has what Debian's package has. Only folders and the version differ.

include /usr/share/dpkg/architecture.mk
include /usr/share/dpkg/pkg-info.mk

package = qemu-system-x86-rvmrpc
tree = $(CURDIR)/obj-qemu
libdir = /usr/lib/$(DEB_HOST_MULTIARCH)/rvmrpc
modules = debian/$(package)$(libdir)/qemu
objects = $(tree)/b/qemu
upstream_version = $(shell dpkg-parsechangelog -l$(CURDIR)/upstream/debian/changelog -S Version)

# QEMU's own debug information is most of its build, and is not packaged.
export DEB_CFLAGS_MAINT_STRIP = -g
# Libraries that Debian 12 has not, and Debian 13's QEMU wants.
without = $(if $(shell pkg-config --exists blkio && echo yes),,--disable-blkio)
compilers = $(if $(shell command -v ccache),--cc="ccache gcc" --host-cc="ccache gcc")
debian_rules = $(MAKE) -C $(tree) -f debian/rules BUILD_PACKAGES=qemu-system libdir=$(libdir) \
	PKGVERSION="Debian $(upstream_version), rvmrpc $(DEB_VERSION)" \
	QEMU_CONFIGURE_OPTIONS='--target-list=x86_64-softmmu --disable-tools $(without) $(compilers)'

# What most hosts do not use, and needs much: recommended instead.
extra = audio-% block-% chardev-% ui-% hw-display-qxl hw-display-virtio-%-gl

# Its modules, but for those of tests and of another architecture. Not all that
# ninja would build: tests and plugins' examples are half of it.
wanted = ninja -C $(objects) -t targets all | sed -n 's/^\([^/]*\.so\): .*/\1/p' | grep -v -e qtest -e s390x | sort -u

configure:
	QEMU_SRC=$(CURDIR)/upstream RVMRPC_BUILD=$(CURDIR)/obj-stage RVMRPC_CACHE=$(CURDIR)/obj-stage/cache \
		scripts/stage qemu $(tree)
	+$(debian_rules) configure-qemu

build:
	+ninja -C $(objects) qemu-system-x86_64 $$($(wanted))

install:
	install -D $(objects)/qemu-system-x86_64 debian/$(package)/usr/bin/qemu-system-x86_64-rvmrpc
	install -d $(modules)
	cd $(objects) && install -m 644 -t $(CURDIR)/$(modules) $$($(wanted))
	install -D -m 644 -t debian/$(package)/usr/share/doc/$(package) docs/libvirt.xml

# Depends of the program and of what libvirt's domains always have; Recommends of the rest.
shlibdeps:
	dpkg-shlibdeps -Tdebian/$(package).substvars debian/$(package)/usr/bin/qemu-system-x86_64-rvmrpc \
		$(filter-out $(extra:%=$(modules)/%.so),$(wildcard $(modules)/*.so)) \
		-dRecommends $(filter $(extra:%=$(modules)/%.so),$(wildcard $(modules)/*.so))

.PHONY: configure build install shlibdeps
