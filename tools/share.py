# SPDX-License-Identifier: GPL-2.0-only
"""Write the man page, and the completion of bash, zsh and fish, to a directory such as /usr/share.

They come from the parsers of the command line. ``make share`` runs this program; pyvmm itself
imports none of the packages that it needs.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import shtab

from pyvmm import __version__, cli
from pyvmm.lab import lab_devices

COMPLETIONS = {
    "bash": "bash-completion/completions/pyvmm",
    "zsh": "zsh/site-functions/_pyvmm",
    "fish": "fish/vendor_completions.d/pyvmm.fish",
}
MAN_PAGE = "man/man1/pyvmm.1"
_FILES = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY, "PROGRAM": shtab.FILE}
_BREAK = "LINE-BREAK"  # argparse-manpage fills the lines of the synopsis
# Not in bash, in which a colon separates words.
_PCI_FUNCTIONS = {"zsh": "($(ls /sys/bus/pci/devices))", "fish": "(ls /sys/bus/pci/devices)"}


def main(share: Path) -> None:
    """Write the files below `share`. shtab supports fish since 1.10."""
    for shell, name in COMPLETIONS.items():
        if shell in shtab.SUPPORTED_SHELLS:
            _write(share / name, shtab.complete(completed_tree(), shell))
    argv = [str(Path(sys.executable).with_name("argparse-manpage")), "--pyfile", __file__]
    argv += ["--function", "documented_tree", "--manual-title", "User Commands"]
    argv += ["--project-name", "pyvmm", "--version", __version__]
    argv += ["--description", "userspace VMM for people who work on KVM memory uAPI"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # as this process
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    _write(share / MAN_PAGE, done.stdout.replace(f" {_BREAK} pyvmm ", "\n.br\n.B pyvmm\n"))


def completed_tree() -> cli.CommandParser:
    """Return the tree with the values that shells complete."""
    tree = cli.tree()
    for parser in tree.parsers():
        name = parser.prog.removeprefix("pyvmm ")
        parser.description = cli.COMMANDS.get(name, parser.description)  # short: a menu shows it
    for action in (action for parser in tree.parsers() for action in parser._actions):
        if action.dest == "device":
            action.choices = lab_devices.NAMES
        elif action.metavar == "BDF":
            _complete(action, _PCI_FUNCTIONS)
        elif action.metavar in _FILES:
            _complete(action, _FILES[str(action.metavar)])
    return tree


def documented_tree() -> cli.CommandParser:
    """Return the tree with all its texts where argparse-manpage prints them."""
    tree = cli.tree()
    assert tree.usage
    tree.usage = tree.usage.replace("\n", f"\n{_BREAK} ")
    for parser in tree.parsers():
        if parser is not tree and parser.epilog:
            parser.description = f"{parser.description}\n\n{parser.epilog}"
    return tree


def _complete(action: argparse.Action, how: object) -> None:
    action.complete = how  # type: ignore[attr-defined]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
