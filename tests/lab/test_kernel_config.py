# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import kernel_config


@pytest.mark.parametrize("name", ["lab", *kernel_config.PAGE_SIZES])
def test_fragment_has_each_option_once(name: str) -> None:
    lines = kernel_config.variant(name, ["CONFIG_KVM=y", "CONFIG_NEW=n"]).splitlines()
    options = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert all(option.startswith("CONFIG_") for option in options)
    assert len(options) == len(set(options))


def test_page_size() -> None:
    options = kernel_config.options(kernel_config.variant("lab:16k"))
    assert [option for option in options if "K_PAGES" in option] == [
        "CONFIG_ARM64_4K_PAGES=n",
        "CONFIG_ARM64_16K_PAGES=y",
    ]


def test_changes_of_a_file_and_of_arguments(tmp_path: Path) -> None:
    file = tmp_path / "debug.config"
    file.write_text("# a comment\nCONFIG_KASAN=y\n# CONFIG_SMP is not set\n")
    assert kernel_config.parse_changes([str(file), "NR_CPUS=4", 'CONFIG_LSM=""']) == [
        "CONFIG_KASAN=y",
        "CONFIG_SMP=n",
        "CONFIG_NR_CPUS=4",
        'CONFIG_LSM=""',
    ]


@pytest.mark.parametrize("argument", ["/no/such/file", "KASAN"])
def test_changes_that_are_none(argument: str) -> None:
    with pytest.raises(UsageError, match=f"cannot read {argument}: .*OPTION=y"):
        kernel_config.parse_changes([argument])


def test_options_that_kconfig_drops() -> None:
    result = "CONFIG_A=y\nCONFIG_B=n\n# CONFIG_C is not set\nCONFIG_D=y\n"
    wanted = ["CONFIG_A=y", "CONFIG_C=n", "CONFIG_C=y", "CONFIG_D=n", "CONFIG_E=n", "CONFIG_F=y"]
    assert kernel_config.dropped(wanted, result) == ["CONFIG_C=y", "CONFIG_D=n", "CONFIG_F=y"]
