"""Signals as a terminal sends them."""

import os
import signal
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """As in a terminal; what a shell starts in the background ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ctrl_c_in(usual_signals: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str], None]:
    """Ctrl-C comes while a function of a module runs, once it is called."""

    def press(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    return lambda module, name: monkeypatch.setattr(module, name, press)
