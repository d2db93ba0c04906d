# SPDX-License-Identifier: GPL-2.0-only
"""Watch another VMM: see, and bend, what it says to KVM, vfio and iommufd.

Following programs (no word of KVM in it):
    ptrace, seccomp     the kernel's two interfaces: stop, look, change; and where to stop
    start, tasks        a program on its way to be traced; what /proc says of one
    tracer              the loop: threads, forks, execs, signals, calls
    delays, apart       calls that wait; a trace that outlives the command that began it
    memory              a tracee's memory, however broken its pointers

Understanding them:
    objects             which fd is what: VMs, vCPUs, devices, containers, iommufds
    values, symbols     C structs as plain values, numbers as the headers' names
    decode, details     an ioctl's argument, and what it leads to
    runs                struct kvm_run before and after each KVM_RUN
    vms, explain        what is known of a traced VM; why something in it failed
    inject              rules that answer in the kernel's place
    events, watch       what happened, as values; where it is all put together

Showing it, now or later:
    text, summary, slots, filters   what a person sees
    record, diff                    traces kept, and two of them compared
"""
