# SPDX-License-Identifier: GPL-2.0-only
"""The questions' port, with this process in QEMU's place."""

import json
import socket
import threading

import pytest

from pyvmm.lab.stage2_client import PORT
from pyvmm.lab.stage2_server import Stage2Server


def ask(server: Stage2Server, *questions: str) -> list[dict[str, str]]:
    [path] = (a.partition("path=")[2] for a in server.arguments() if "path=" in a)
    with socket.socket(socket.AF_UNIX) as port:
        port.connect(path)
        with port.makefile("rw") as lines:
            answers = []
            for question in questions:
                print(question, file=lines, flush=True)
                answers.append(json.loads(lines.readline()))
    return answers


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ("", "there is no question"),
        ("stage3 0x0", "there is no question 'stage3'"),
        ("stage2", "invalid literal"),
        ("stage2 here", "invalid literal"),
        ("stage2 0x40000000", "No such file"),  # no QEMU is there
    ],
)
def test_what_cannot_be_answered_says_why(question: str, complaint: str) -> None:
    with Stage2Server() as server:
        first, second = ask(server, question, question)
    assert complaint in first["error"]
    assert second == first


def test_the_port_has_a_name() -> None:
    with Stage2Server() as server:
        assert server.arguments()[-1].endswith(f"name={PORT}")


def test_it_ends_though_no_one_asked() -> None:
    with Stage2Server():
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "questions"]
