# SPDX-License-Identifier: GPL-2.0-only
"""The names in the verdicts; tests/provoke/test_agreement.py tests the rules on real failures."""

import ast
import inspect
import re

from pyvmm.provenance import KernelPath, judge, verdict
from pyvmm.why import kvm_run, registration

NAME = re.compile(r"[a-z]+(-[a-z]+)+|signal")


def test_each_name_is_a_condition() -> None:
    """The two answers are compared by name, and neither module imports the other."""
    conditions = {each.name for each in kvm_run.CONDITIONS}
    conditions |= {each.name for each in registration.CONDITIONS}
    tree = ast.parse(inspect.getsource(judge))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    names = {text for text in texts if isinstance(text, str) and NAME.fullmatch(text)}
    assert "hva-unmapped" in names
    assert names - conditions == set()


def test_no_rule_knows_the_path() -> None:
    for ioctl in ("KVM_RUN", "KVM_SET_USER_MEMORY_REGION"):
        path = KernelPath(1, ioctl, "-ERANGE", None, None, None, (), 0, 0)
        assert verdict(path) == ()
