# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's headers say: ioctl numbers, struct layouts, names. It knows nothing else.

Generated from the headers and committed, to be read and grepped:
    kvm                 ``linux/kvm.h``: what is the same on arm64 and x86-64
    kvm_arm64           what only arm64 has, or has otherwise
    kvm_x86_64          what only x86-64 has, or has otherwise
    vfio, iommufd       ``linux/vfio.h``, ``linux/iommufd.h``

C names stay as they are. A struct that has none is called after its parent and its member there:
``kvm_run_mmio`` is the type of ``mmio`` in ``struct kvm_run``.

By hand, for those who use them:
    native              the names that differ, as the running machine has them
    names               from a number back to its name
    layout              what a struct is: offsets and a size, over ctypes
    ioctl               what an ioctl is: a number with a name, its fds and its argument

The generator, one step a file:
    tree                where in a directory the headers are
    headers             libclang reads one
    fds                 what no header says: the fds and the argument of an ioctl
    model               what was read, as plain values
    emit                plain values become Python source
    generate            the command that does it all, or checks that it was done

Headers of your own, at run time:
    sets                all of a directory's headers, read once and then kept
    builtin             the generated modules, as if they had been read so
    diff                what changed between two of them, and whether that breaks anything
    overlay             loads one over the built-in definitions
    show, text          what there is to say about a name, and how
"""
