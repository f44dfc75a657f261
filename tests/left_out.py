"""Tests that processes of xdist have deselected, in the closing line of the one that reports."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

LEFT_OUT = "left_out"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for config in {item.config for item in items}:
        output = getattr(config, "workeroutput", {})
        output[LEFT_OUT] = output.get(LEFT_OUT, 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # They have all deselected the same ones.
    reporter = node.config.pluginmanager.get_plugin("terminalreporter")
    number = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)
    if number:
        reporter.stats["deselected"] = [SimpleNamespace()] * number
