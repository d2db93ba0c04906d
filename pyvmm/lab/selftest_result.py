# SPDX-License-Identifier: GPL-2.0-only
"""The result of one of the kernel's selftests: passed, skipped, failed, timed out, or host dead."""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pyvmm import ktap
from pyvmm.errors import Status


class Outcome(StrEnum):
    """How a test ended."""

    PASS = "pass"
    SKIP = "skip"
    FAIL = "fail"
    TIMEOUT = "timeout"
    HOST = "host died"

    @property
    def kind(self) -> str:
        """Return the kind in KTAP's totals line."""
        return {Outcome.TIMEOUT: "fail", Outcome.HOST: "error"}.get(self, self.value)


_RESULT = re.compile(r"(not )?ok\b[ \d]*(?:[^#]|#(?! SKIP))*(# SKIP\b *(?P<reason>.*))?$")
# ksft_exit_skip() prints a plan of no tests, print_skip() of kvm's test_util.c a sentence. A test
# that passes may print "SKIP" for a part of it.
_SKIPPED = re.compile(r"1\.\.0 # SKIP[ :-]*(.*)|(.*), skipping test$")
_ASSERTION = re.compile(r"==== Test Assertion Failure ====\n\s*(.*)\n(?:\s*pid=.*\n)?")
_MAX_REASON = 200  # characters


@dataclass(frozen=True)
class SelftestResult:
    """The result of a test.

    Attributes:
        reason: why it did not pass.
        reduced: why its arguments are not the default ones, or "".
        log: the lines of the kernel's log since it started.
        trace: the summary of ``pyvmm trace``, if it ran under it.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    arguments: tuple[str, ...] = ()
    reduced: str = ""
    seconds: float = 0.0
    output: str = ""
    log: tuple[str, ...] = ()
    trace: str = ""

    def ktap(self, number: int) -> Iterator[str]:
        """Yield the lines of the result: the test's own TAP nested, then the result line."""
        if self.arguments:
            yield f"# arguments: {' '.join(self.arguments)}"
        if self.reduced:
            yield f"# arguments reduced for emulation: {self.reduced}"
        lines = self.output.splitlines()
        if any(map(_RESULT.match, lines)):
            yield f"{ktap.INDENT}{ktap.VERSION}"
            yield f"{ktap.INDENT}# Subtest: {self.name}"
            yield from (ktap.INDENT + _nested(line) for line in lines if line.strip())
        else:
            yield from ktap.diagnostics(self.output)
        yield from (f"# kernel: {line}" for line in self.log)
        yield from (f"# trace: {line}".rstrip() for line in self.trace.splitlines())
        directive = {Outcome.SKIP: "SKIP", Outcome.TIMEOUT: "TIMEOUT", Outcome.HOST: "ERROR"}
        passed = self.outcome in (Outcome.PASS, Outcome.SKIP)
        if self.outcome is Outcome.FAIL:
            yield f"# {self.reason}"
        yield ktap.result(passed, number, self.name, directive.get(self.outcome, ""), self.reason)


def judge(status: int, output: str) -> tuple[Outcome, str]:
    """Return the outcome of a test that ended with `status`, and the reason if it did not pass.

    `status` is as in `subprocess`: negative for a signal. A test may skip everything and exit 0.
    """
    results = [match for line in output.splitlines() if (match := _RESULT.match(line))]
    passed = any(not match[1] and match["reason"] is None for match in results)
    passed |= bool(re.search(r"\bPASS", output))  # get-reg-list skips some parts
    if status == Status.SKIPPED or (status == 0 and not passed and (results or _skip(output))):
        reasons = [match["reason"] for match in results if match["reason"]]
        reason = _skip(output) or ", ".join(dict.fromkeys(reasons)) or _last_line(output)
        return Outcome.SKIP, _short(reason)
    if status == 0:
        return Outcome.PASS, ""
    return Outcome.FAIL, _short(_failure(status, output))


def _skip(output: str) -> str:
    """Return the reason why a whole test was skipped, or ""."""
    matches = map(_SKIPPED.match, output.splitlines())
    return next((match[1] or match[2] for match in matches if match), "")


def _failure(status: int, output: str) -> str:
    """Return what failed: an assertion, a result line, or the last line of output."""
    if assertion := _ASSERTION.search(output):
        lines = [line.strip() for line in output[assertion.end() :].splitlines()]
        message = [line for line in lines if line and not re.match(r"\d+\t?0x|\(stack trace", line)]
        what = [line for line in message if not re.match(r"\d+\s", line)][:1]
        return ": ".join([assertion[1].strip(), *what])
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    failed = [line for line in output.splitlines() if line.startswith("not ok")]
    return (failed or [_last_line(output) or f"exit status {status}"])[0]


def _last_line(output: str) -> str:
    return next((line for line in reversed(output.splitlines()) if line.strip()), "")


def _nested(line: str) -> str:
    """Return a line of a test's own output as a line of KTAP."""
    is_ktap = line.startswith(("#", "ok ", "not ok ", "1..", "Bail out!", " "))
    return line if is_ktap and not line.startswith("TAP version") else f"# {line}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _MAX_REASON else f"{words[:_MAX_REASON]}…"
