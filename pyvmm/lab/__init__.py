# SPDX-License-Identifier: GPL-2.0-only
"""The lab: an emulated arm64 host with real KVM, vfio and SMMU, on any machine.

`apt` fetches Debian packages without touching the machine's own apt; `tree` unpacks them into
directories of their own: QEMU and the tools, the compilers, the arm64 userland. `kernel`,
`modules` and `build` bring kernels, `userland` the root file system, `headers` a kernel's
headers; `cache` keeps them whole. `qemu` and `devices` say what the emulated machine is,
`initramfs`, `pycache` and `init.sh` start it, `host` and `streams` run one command in it from
power-on to its end, `terminal` types into it, `matrix` runs one command on many. `gdb` and
`stage2` read real stage-2 descriptors while it is stopped.
"""
