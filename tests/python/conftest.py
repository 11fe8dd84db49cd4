"""The package of this tree, on CPU tensors: the library's CPU device runs the same kernels."""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
if not os.environ.get("FASTINFER_TEST_INSTALLED"):  # else what pip installed is tested
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "python"))

import torch  # noqa: E402

torch.set_num_threads(2)


@pytest.fixture
def launches(monkeypatch):
    """Names of the kernels that were launched, in order."""
    from fastinfer import library

    names = []
    launch = library.Kernel.launch

    def noted(kernel, *rest):
        names.append(kernel.name)
        return launch(kernel, *rest)

    monkeypatch.setattr(library.Kernel, "launch", noted)
    return names


@pytest.fixture(autouse=True)
def _grad_mode():
    assert torch.is_grad_enabled()
    yield
    torch.set_grad_enabled(True)


def pytest_terminal_summary(terminalreporter):
    """For scripts/test.sh: a line a test."""
    if not os.environ.get("FASTINFER_TAP"):
        return
    words = {"passed": "ok", "failed": "not ok", "error": "not ok", "skipped": "ok"}
    terminalreporter.write_line("")
    for outcome, word in words.items():
        for report in terminalreporter.stats.get(outcome, []):
            note = " # skip" if outcome == "skipped" else ""
            terminalreporter.write_line("%s - %s%s" % (word, report.nodeid, note))
