# SPDX-License-Identifier: GPL-2.0-only
"""Watch another VMM: see, and bend, what it says to KVM, vfio and iommufd.

Following programs (no word of KVM in it):
    ptrace, seccomp     the kernel's two interfaces: stop, look, change; and where to stop
    start, tasks        a program on its way to be traced; what /proc says of one
    tracer, delays      the loop: threads, forks, execs, signals, calls; and calls that wait
    apart               a trace that outlives the command that began it

Understanding what they say:
    objects, vms        which fd is what; what is known of each VM
    values, symbols     C structs as plain values, numbers by the headers' names
    decode, details     an ioctl's argument, and what it leads to
    registers, attributes   one-reg ids and device attributes by name
    runs                struct kvm_run before and after each KVM_RUN
    explain             why something failed, by the rules that explain pyvmm's own failures
    inject, scenario    rules that answer in the kernel's place
    events              what happened, as values that JSON can hold
    ioctls, running, mappings, known, watch   from calls to events, and what is learned on the way

Showing it, now or later:
    text, summary, slots, filters, views   what a person sees
    record, diff        traces kept, and two of them compared
"""
