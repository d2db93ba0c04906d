# SPDX-License-Identifier: GPL-2.0-only
"""The lab: an emulated arm64 host with real KVM, vfio and SMMU, on any machine.

`apt` fetches Debian packages without touching the machine's own apt; `tree` unpacks them into
directories of their own: QEMU and the tools, the compilers, the arm64 userland. `kernel` and
`build` bring kernels, `userland` the root file system, `qemu` and `devices` say what the
emulated machine is, `initramfs` and `init.sh` start it, `host` runs one command in it from
power-on to power-off, `matrix` runs one command on many.
"""
