# SPDX-License-Identifier: GPL-2.0-only
"""The lab: an emulated arm64 host with real KVM, vfio and SMMU drivers, on any machine.

Packages: `apt` downloads Debian packages without changing this machine, and `package_tree`
unpacks them into directories (QEMU and tools, compilers, arm64 userland). `cache` stores the
results.

Parts of a host: `kernel` finds a kernel, `kernel_build` builds one, `kernel_modules` packs its
modules, and `kernel_headers` downloads headers. `userland` creates the root file system.
`initramfs` and `pycache` create the initial RAM file system, which starts `init.sh`. `qemu`,
`kvm_mode` and `lab_devices` describe the emulated machine.

Running: `host` runs one command from power-on to power-off, `virtio_ports` relays its output,
`terminal` its terminal, `matrix` runs a command on several hosts, and `causes` writes CAUSES.md.

Stage 2: `stage2_client` in the host asks `stage2_server` for a stage-2 descriptor; `stage2` walks
the tables that `gdb` reads from the stopped machine.
"""
