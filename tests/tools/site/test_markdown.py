# SPDX-License-Identifier: GPL-2.0-only
import pytest

markdown = pytest.importorskip("tools.site.markdown", reason="tools/ is in the checkout only")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a_b <c> | d", r"a\_b \<c\> \| d"),
        ("``KVM_RUN`` and `x_y`", "`KVM_RUN` and `x_y`"),
        ("a `b", r"a \`b"),
    ],
)
def test_special_characters(text: str, printed: str) -> None:
    assert markdown.escaped(text) == printed


def test_table() -> None:
    assert markdown.table(["a", "b"], [["1\n2", "3"]]) == "| a | b |\n| --- | --- |\n| 1 2 | 3 |\n"
