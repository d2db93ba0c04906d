# SPDX-License-Identifier: GPL-2.0-only
"""Pages about the examples: their introduction, their recorded output, and their source.

The recorded output is in docs/output, as EXAMPLE.CPU.txt, after a line that names the kernel.
tests/test_examples.py compares it with that of a run on the same kernel and CPU.
"""

import ast
import textwrap
from pathlib import Path

from tools.site.documents import CHECKOUT
from tools.site.markdown import block

EXAMPLES = CHECKOUT / "examples"
OUTPUT = CHECKOUT / "docs/output"
_THREADS = """\
# The threads

Discussions on linux-arm-kernel led to this project. Each of these examples shows the point of one
of them on a real kernel, with the stage-2 memory type from the real descriptors.

"""
_EXAMPLES = """\
# Examples

Each example runs unchanged, on hardware or in the lab.

"""


def pages() -> dict[str, str]:
    """Return the pages by their path in the source."""
    found = {f"examples/{path.stem}.md": page(path) for path in sorted(EXAMPLES.glob("*.py"))}
    threads = [name for name in found if "/thread_" in name]
    others = [name for name in found if name not in threads]
    found["threads/index.md"] = _THREADS + _toctree(threads)
    found["examples/index.md"] = _EXAMPLES + _toctree(others)
    return found


def page(path: Path) -> str:
    """Return the page about an example."""
    source = path.read_text()
    title, _, rest = (ast.get_docstring(ast.parse(source)) or path.stem).partition("\n\n")
    text, _, command = rest.partition("\npython -m pyvmm ")
    parts = [f"# {title.rstrip('.')}\n", text]
    if command:
        parts.append(block(f"python -m pyvmm {textwrap.dedent(command)}", "shell"))
    for recorded in sorted(OUTPUT.glob(f"{path.stem}.*.txt")):
        kernel, _, output = recorded.read_text().partition("\n")
        parts.append(f"## Output on {recorded.suffixes[0][1:]}\n\n{kernel}:\n")
        parts.append(block(output))
    parts.append(f"## Source\n\n`examples/{path.name}`:\n")
    parts.append(block(source[source.index('"""\n') + 4 :], "python"))
    return "\n".join(parts)


def _toctree(names: list[str]) -> str:
    entries = "".join(f"/{name.removesuffix('.md')}\n" for name in names)
    return f"```{{toctree}}\n:maxdepth: 1\n\n{entries}```\n"
