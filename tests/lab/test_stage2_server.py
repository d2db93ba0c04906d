# SPDX-License-Identifier: GPL-2.0-only
"""Query the stage-2 server over its socket, without QEMU."""

import json
import socket
import threading
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab.stage2_client import PORT
from pyvmm.lab.stage2_server import Stage2Server


def ask(server: Stage2Server, *queries: str) -> list[dict[str, str]]:
    [path] = (a.partition("path=")[2] for a in server.arguments() if "id=stage2" in a)
    with socket.socket(socket.AF_UNIX) as port:
        port.connect(path)
        with port.makefile("rw") as lines:
            answers = []
            for query in queries:
                print(query, file=lines, flush=True)
                answers.append(json.loads(lines.readline()))
    return answers


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "unknown query"),
        ("stage3 0x0", "unknown query 'stage3'"),
        ("stage2", "invalid literal"),
        ("stage2 here", "invalid literal"),
        ("stage2 0x40000000", "No such file"),  # there is no gdb stub
    ],
)
def test_error_for_invalid_query(query: str, error: str) -> None:
    with Stage2Server() as server:
        first, second = ask(server, query, query)
    assert error in first["error"]
    assert second == first


def test_port_name() -> None:
    with Stage2Server() as server:
        assert server.arguments()[-1].endswith(f"name={PORT}")


def test_thread_ends_without_a_query() -> None:
    with Stage2Server():
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "stage2-server"]


def test_too_long_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / ("long" * 25)
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    with pytest.raises(LackingError, match="is too long for the path of a socket: set TMPDIR"):
        Stage2Server().__enter__()
