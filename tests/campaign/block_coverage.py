# SPDX-License-Identifier: GPL-2.0-only
"""Run a module, and record which blocks of pyvmm's code it executes.

``python -m tests.campaign.block_coverage MODULE [ARGUMENT…]``

An import hook adds a statement to each block of pyvmm's functions, which sets a byte. That costs
about 20 ns per block and works in every Python; sys.settrace() makes a parser 30 times slower, and
Python 3.11 has no sys.monitoring. Atheris and coverage.py are Apache-2.0, which does not combine
with GPL-2.0-only in one process.
"""

import ast
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

_PACKAGE = "pyvmm"
_NAME = "__blocks__"
_BLOCKS = bytearray()  # one byte for each block of the imported modules


def executed() -> bytes:
    """Return a byte for each block, 1 if it was executed."""
    return bytes(_BLOCKS)


def has_changed(since: bytes) -> bool:
    """Return True if other blocks were executed than `since` says, in less than 1 µs."""
    return since != _BLOCKS


def clear() -> None:
    """Forget the blocks executed so far."""
    _BLOCKS[:] = bytes(len(_BLOCKS))


def install() -> None:
    """Record the blocks of the modules of pyvmm that are imported from now on."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != _PACKAGE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the source: the cached code of a module records nothing."""
        tree = _Recorder().visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _NAME, _BLOCKS)
        super().exec_module(module)


class _Recorder(ast.NodeTransformer):
    """Begins each block of a function with ``__blocks__[NUMBER] = 1``."""

    def __init__(self) -> None:
        self._depth = 0  # of functions; a module's own blocks run once

    def generic_visit(self, node: ast.AST) -> ast.AST:
        is_function = isinstance(node, ast.FunctionDef)
        first = int(isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None)
        self._depth += is_function
        super().generic_visit(node)
        if self._depth and not isinstance(node, ast.ClassDef | ast.Lambda | ast.IfExp):
            for name in ("body", "orelse", "finalbody"):
                if block := getattr(node, name, None):
                    block.insert(first, self._record(block[0]))
        self._depth -= is_function
        return node

    @staticmethod
    def _record(place: ast.stmt) -> ast.stmt:
        [statement] = ast.parse(f"{_NAME}[{len(_BLOCKS)}] = 1").body
        _BLOCKS.append(0)
        for each in ast.walk(statement):
            ast.copy_location(each, place)
        return statement


def main(argv: list[str]) -> Any:
    """Run the module `argv[0]` with the other arguments."""
    install()
    sys.argv = argv
    return runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # Not this module's own main(): the campaigns import its functions by its full name.
    from tests.campaign import block_coverage

    block_coverage.main(sys.argv[1:])
