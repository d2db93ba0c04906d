# SPDX-License-Identifier: GPL-2.0-only
"""Provenance: the kernel's own path to a failed ioctl, recorded by ftrace, and its verdict.

A kretprobe on each function between the ioctl and the memory records errors that user space never
sees. The verdict rests on that record alone and imports nothing of `pyvmm.why`, so that the two can
be compared. Needs root and CONFIG_KPROBE_EVENTS.

tracefs      a tracing instance of one process, and its dynamic events
functions    the functions to probe, and the decoding of their results
trace_pipe   the text form of an event
chain        events of a thread → the path of one ioctl
kernel_log   lines of the kernel's log, by time
recorder     all of it for some threads
judge        rules: path → names of conditions
"""

from pyvmm.provenance.chain import GuestFault, KernelPath, Request, Step
from pyvmm.provenance.judge import verdict
from pyvmm.provenance.recorder import Recorder

__all__ = ["GuestFault", "KernelPath", "Recorder", "Request", "Step", "verdict"]
