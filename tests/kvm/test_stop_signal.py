# SPDX-License-Identifier: GPL-2.0-only
import select
import threading

from pyvmm.kvm import stop_signal


def test_it_ends_no_thread_that_is_not_in_kvm_run() -> None:
    stop_signal.install()
    stop_signal.send(threading.get_native_id())
    assert select.select([], [], [], 0) == ([], [], [])


def test_a_thread_that_has_ended_is_left_alone() -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    stop_signal.send(ids[0])


def test_any_thread_may_install_the_handler() -> None:
    thread = threading.Thread(target=stop_signal.install)
    thread.start()
    thread.join()
    stop_signal.send(threading.get_native_id())
