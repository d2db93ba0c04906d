# SPDX-License-Identifier: GPL-2.0-only
"""Two makes at once in a fresh clone set up one virtual environment, one after the other."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]

# A python3 whose venv module creates a pip that does what pip does, but fetches nothing.
PYTHON = """\
#!/bin/sh
case "$1" in
-m)
    echo begin >>log
    mkdir -p "$3/bin"
    cat >"$3/bin/pip" <<'END'
#!/bin/sh
sleep 1
touch .venv/bin/pyvmm
echo end "$4" >>log
END
    chmod +x "$3/bin/pip"
    ;;
esac
"""


@pytest.mark.skipif(not (CHECKOUT / "Makefile").exists(), reason="needs the checkout")
@pytest.mark.parametrize(
    ("target", "extras"),
    [("installed", "dev"), ("runnable", "cli,decode,trace,lab")],
)
def test_makes_at_once(target: str, extras: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    argv = ["make", f"PYTHON={python}", f".venv/{target}"]
    makes = [subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [make.wait() for make in makes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == f"begin\nend .[{extras}]\n"
