# SPDX-License-Identifier: GPL-2.0-only
import select
import threading

from pyvmm.kvm import stop_signal


def test_signal_outside_kvm_run_is_ignored() -> None:
    stop_signal.install()
    stop_signal.send(threading.get_native_id())
    assert select.select([], [], [], 0) == ([], [], [])


def test_send_to_an_exited_thread() -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    stop_signal.send(ids[0])


def test_install_in_another_thread() -> None:
    thread = threading.Thread(target=stop_signal.install)
    thread.start()
    thread.join()
    stop_signal.send(threading.get_native_id())
