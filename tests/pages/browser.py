# SPDX-License-Identifier: GPL-2.0-only
"""Headless Chromium, driven through the DevTools protocol on a pair of pipes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, for root; no traffic of the browser's own.
_OPTIONS = (
    *("--headless", "--disable-gpu", "--no-sandbox", "--remote-debugging-pipe"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
)

# The browser reads from descriptor 3 and writes to 4.
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 5) for fd in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A browser process with one page at a time.

    Attributes:
        requests: the URLs that the page requested.
        errors: the messages of its console, and its exceptions.
    """

    def __init__(self, program: str, home: Path) -> None:
        """Start the process, with its files in `home`."""
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        options = [*_OPTIONS, f"--user-data-dir={home / 'profile'}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(to_read), str(to_write), program, *options],
            pass_fds=(to_read, to_write),
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._received = b""
        self._last = 0
        self._session = ""
        self.requests: list[str] = []
        self.errors: list[str] = []

    def open(self, page: Path, *, script: bool = True, scheme: str = "light") -> None:
        """Load a page in a new tab, and wait until it has loaded."""
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setScriptExecutionDisabled", value=not script)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self.requests, self.errors = [], []
        self._call("Page.navigate", url=page.as_uri())
        while self._event().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def close(self) -> None:
        """End the process."""
        os.close(self._to)
        self._process.terminate()
        self._process.wait()
        os.close(self._from)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._event()).get("id") != self._last:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _event(self) -> dict[str, Any]:
        """Return the next message, an answer or an event, and keep what an event says."""
        while b"\0" not in self._received:
            data = os.read(self._from, 1 << 20)
            assert data, "the browser ended"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        event: dict[str, Any] = json.loads(text)
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.errors.append(str(parameters["args"]))
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.errors.append(parameters["entry"]["text"])
        return event


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        running = Browser(program, Path(home))
        try:
            yield running
        finally:
            running.close()
