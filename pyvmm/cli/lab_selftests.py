# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm lab selftests``: the kernel's own tests of KVM and vfio in the emulated host."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyvmm import ktap
from pyvmm.cli import lab_hosts, output
from pyvmm.cli.progress import progress
from pyvmm.errors import LackingError, Status
from pyvmm.lab import matrix, selftest_build, selftest_table, selftests
from pyvmm.lab.host import Host
from pyvmm.lab.selftest_result import Outcome, SelftestResult
from pyvmm.lab.selftest_table import SelftestRow

_DEFAULT_DEVICE = "edu"  # of the vfio suite
_TIMEOUT = 120.0  # seconds for each test


def run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the suites on each host, print the results and return the exit status."""
    quiet = options.json or options.markdown
    suites = [options.suite] if options.suite else selftest_build.SUITES
    hosts = {suite: _hosts(options, suite) for suite in suites}
    if not quiet:
        print(f"{ktap.VERSION}\n1..{sum(map(len, hosts.values()))}", flush=True)
    rows: list[SelftestRow] = []
    for suite in suites:
        for host in hosts[suite]:
            rows.append(_run_on(host, suite, options, None if quiet else len(rows) + 1))
    if options.json:
        print(json.dumps(selftest_table.document(rows), indent=1))
    elif options.markdown:
        print(selftest_table.markdown(rows))
    else:
        print(ktap.totals(result.outcome.kind for row in rows for result in row.results))
    if any(row.error for row in rows):
        return Status.LACKING
    outcomes = {result.outcome for row in rows for result in row.results}
    if outcomes <= {Outcome.SKIP}:
        return Status.SKIPPED
    return Status.DONE if outcomes <= {Outcome.PASS, Outcome.SKIP} else Status.FAILED


def _hosts(options: argparse.Namespace, suite: str) -> list[Host]:
    if suite != "vfio" or options.device:
        return lab_hosts.create(options)
    return lab_hosts.create(argparse.Namespace(**vars(options) | {"device": [_DEFAULT_DEVICE]}))


def _run_on(host: Host, suite: str, options: argparse.Namespace, number: int | None) -> SelftestRow:
    """Run a suite on a host; with `number`, print its results as test `number` of the KTAP."""
    with progress() as report:
        programs = selftest_build.build(suite, host.kernel, options.source, report)
    names = selftests.choose(selftest_build.programs(programs), options.tests)
    identity = (suite, programs.name, str(options.under_trace))
    saved = options.resume and options.resume / matrix.file_name(host, identity)

    def run_tests(left: Sequence[str]) -> Iterator[SelftestResult]:
        return selftests.run(
            host,
            suite,
            programs,
            left,
            timeout=options.timeout or _TIMEOUT,
            traced=options.under_trace,
            note=output.note,
        )

    results = selftest_table.resume(saved, names, run_tests) if saved else run_tests(names)
    title = f"{suite} on {SelftestRow(suite, host).name}"
    done: list[SelftestResult] = []
    if number is None:
        output.note(title)
    else:
        _print([ktap.VERSION, f"# Subtest: {title}", f"1..{len(names)}"])
    try:
        for n, result in enumerate(results, 1):
            done.append(result)
            if number is not None:
                _print(result.ktap(n))
    except LackingError as error:  # before the first test of a boot
        if number is not None:
            print(ktap.result(False, number, title, "ERROR", str(error)), flush=True)
        return SelftestRow(suite, host, tuple(done), str(error))
    if number is not None:
        passed = all(each.outcome in (Outcome.PASS, Outcome.SKIP) for each in done)
        print(ktap.result(passed, number, title), flush=True)
    return SelftestRow(suite, host, tuple(done))


def _print(lines: Sequence[str] | Iterator[str]) -> None:
    print("\n".join(f"{ktap.INDENT}{line}" for line in lines), flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm lab selftests``."""
    parser.description = (
        "Build tools/testing/selftests of the kernel's own source for arm64, and run the tests, "
        "many per boot. Print KTAP. Tests whose default arguments take too long under emulation "
        "run with others, and the output says so."
    )
    parser.set_defaults(takes_command=False, takes_headers=False)
    add = parser.add_argument
    add("suite", nargs="?", choices=selftest_build.SUITES, help="default: both")
    add("tests", nargs="*", metavar="TEST", help="only these: rseq_test, arm64/at")
    add("--source", type=Path, metavar="TREE", help="a kernel source to build the tests from")
    add("--under-trace", action="store_true", help="run each test under trace --summary")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    add(
        "--resume",
        type=Path,
        metavar="DIR",
        help="save each result in DIR, and take those that it has from there",
    )
