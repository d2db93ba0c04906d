# SPDX-License-Identifier: GPL-2.0-only
"""Trace another VMM's use of KVM, vfio and iommufd, and inject results into it.

Follow processes (independent of KVM):
    ptrace          ptrace(2) requests, and the facts about a task from /proc
    launch          fork the tracer and the traced program, and install its seccomp filter
    tracer          the loop over threads, forks, execs, signals, system calls and delays

Decode:
    symbols         numbers → names of the kernel headers
    values          C structs → JSON values
    ioctl_decode    ioctl request, argument, and the data it points to
    run_page        struct kvm_run of a traced vCPU
    fd_table        file descriptors → VMs, vCPUs, devices
    traced_vm       memslots of each VM, and the reasons for its failures

Make events:
    events          the event types, their JSON form, and recordings
    inject          rules that inject results, and scenario files
    syscall_events  KVM_RUN, other ioctls and mapping calls → events
    kvm_trace       the handler that connects a tracer to the consumers of events

Print and compare:
    event_text      one event as a line of text
    summary         counts, and the memslots of open VMs
    views           filters, and printing as text or JSON
    trace_diff      the differences between two traces
"""
