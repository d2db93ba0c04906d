# SPDX-License-Identifier: GPL-2.0-only
import io

import pytest

from pyvmm.linux.guest_console import GuestConsole


def printed(*parts: bytes) -> tuple[GuestConsole, bytes]:
    output = io.BytesIO()
    console = GuestConsole(output)
    for part in parts:
        console.write(part)
    console.flush()
    return console, output.getvalue()


def test_output_is_copied() -> None:
    console, output = printed(b"Booting", b" Linux\r\n", b"login: ")
    assert output == b"Booting Linux\r\nlogin: "
    assert console.size == len(output)
    assert (console.init, console.panic) == (None, None)


@pytest.mark.parametrize(
    "line", [b"[    1.2] Run /sbin/init as init process\r\n", b"pyvmm guest: init at 1.2 s\n"]
)
def test_start_of_init(line: bytes) -> None:
    console, _ = printed(*(line[n : n + 1] for n in range(len(line))))
    assert console.init is not None


def test_first_panic() -> None:
    text = b"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n"
    console, _ = printed(b"[ 3.4] " + text, b"Kernel panic - not syncing: other\n")
    assert console.panic == "Attempted to kill init! exitcode=0x00000100"
