"""Ctrl-C and SIGTERM while training: asked once, it stops after the step and saves; asked again, at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has saved all it had.

    Attributes:
        signal: that asked; None if it asked another of several processes.
    """

    def __init__(self, message: str, asked: signal.Signals | None) -> None:
        super().__init__(message)
        self.signal = asked


class Stop:
    """Whether training was asked to stop, and by which signal."""

    asked: signal.Signals | None = None


@contextmanager
def stopping(wanted: bool) -> Iterator[Stop]:
    """Turn the first signal into a note, if `wanted`; what the signals did before, they do again afterwards.

    Only the main thread receives signals; elsewhere nothing changes. A signal that the process was started to ignore,
    as Ctrl-C is in the background of a shell, stays ignored.
    """
    stop = Stop()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: handler for each in SIGNALS if (handler := signal.getsignal(each)) is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = signal.Signals(number)
        restore()
        os.write(2, b"\nStopping as soon as what is under way is saved; ask again to stop at once.\n")  # print may wait

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)

    for each in before:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        restore()
