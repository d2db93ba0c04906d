# SPDX-License-Identifier: GPL-2.0-only
import pytest

examples = pytest.importorskip("tools.site.examples", reason="tools/ is in the checkout only")

THREE = "thread_2025_03_11_three_requirements"


def test_thread_has_its_command_output_and_source() -> None:
    pages = examples.pages()
    page = pages[f"examples/{THREE}.md"]
    assert page.startswith("# 2025-03-11: the three requirements")
    assert "python -m pyvmm lab shell --kernel lab --device grace" in page
    assert page.count("\n## Output on ") == 2
    assert "BAR4 rejected: " in page
    assert 'if __name__ == "__main__":' in page
    assert f"/examples/{THREE}\n" in pages["threads/index.md"]
    assert THREE not in pages["examples/index.md"]


def test_every_output_belongs_to_an_example() -> None:
    for output in examples.OUTPUT.glob("*.txt"):
        assert (examples.EXAMPLES / f"{output.name.partition('.')[0]}.py").exists()
        assert output.read_text().startswith("Linux ")
