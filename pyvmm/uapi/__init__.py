# SPDX-License-Identifier: GPL-2.0-only
"""Definitions of the kernel's uAPI headers: ioctl numbers, struct layouts, constants.

Generated from the headers and committed, so that they can be read and grepped:
    kvm                 ``linux/kvm.h``: the definitions that arm64 and x86-64 share
    kvm_arm64           definitions that only arm64 has, or has differently
    kvm_x86_64          definitions that only x86-64 has, or has differently
    vfio, iommufd       ``linux/vfio.h``, ``linux/iommufd.h``

C names are kept. A struct without a name in C is called after its parent and its member:
``kvm_run_mmio`` is the type of ``mmio`` in ``struct kvm_run``.

To use them:
    native_arch         the definitions that differ by architecture, for the running machine
    names               the name of a constant, by its number
    layout              the class of a struct: offsets and a size, over ctypes
    ioctl_number        the class of an ioctl: a number with a name, its fds and its argument

The generator:
    header_tree         finds the headers in a directory
    headers             reads one header with libclang
    fds                 the fds and arguments of ioctls, which no header defines
    model               plain values for the definitions of a header
    emit                writes plain values as Python source
    generate            the command that writes or checks the generated modules

Headers of another kernel, at run time:
    header_set          all headers of a directory, read once and cached
    builtin             the generated modules as such a header set
    header_diff         the differences of two header sets, and which of them break programs
    overlay             adds a kernel's new definitions to the built-in ones
    lookup              a definition by its name, with its facts and layout
    definition_text     a definition as text and as JSON
"""
