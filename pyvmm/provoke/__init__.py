# SPDX-License-Identifier: GPL-2.0-only
"""Provoke every cause that pyvmm can name, to show what this kernel reports and what fixes it.

testbed             the virtual machine of one provocation
memory_faults       ordinary memory behind a memslot
instruction_faults  fetches, page tables, accesses without a valid syndrome (arm64)
bar_faults          the BARs of vfio devices
pfnmap_ram          RAM that is mapped by page frame number: drm-shmem, udmabuf, dma-heaps
dma_buffers         allocates it
protected_guest     the memory of a protected guest (pKVM)
registrations       memslots that KVM rejects
vcpu_states         KVM_RUN on a vCPU, VM or descriptor that is not ready for it
unprovoked          the conditions without a provocation, and why
forked              a forked process, which KVM does not accept ioctls from
fixed_mmap          mmap(MAP_FIXED) without a record
agreement           the cause compared with the kernel's own path
runner              run the provocations
"""
