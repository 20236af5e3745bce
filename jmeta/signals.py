"""Ctrl-C and SIGTERM: both unwind the work, and say what that left."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

__all__ = ["Stopped", "heeding_sigterm", "stopping"]


class Stopped(KeyboardInterrupt):
    """A signal asked for an end; the message says what that left."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


@contextlib.contextmanager
def stopping(kept: str) -> Iterator[None]:
    """Say what is kept when a signal ends the work inside."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        number = getattr(stopped, "signal", signal.SIGINT)
        raise Stopped(f"stopped; {kept}", number) from stopped


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that nothing half-written is left."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise Stopped("stopped; nothing half-written is left.", number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
