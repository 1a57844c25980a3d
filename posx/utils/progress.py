"""Progress as events for a callback, instead of the lines and bars of :class:`~posx.utils.console.Display`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posx.errors import PosxError
from posx.utils.console import Display


@dataclass(frozen=True)
class Progress:
    """One event: ``done`` of ``total`` steps of the task ``title``, or a ``message``.

    A step is an optimizer step in training, and a window in evaluation. ``note`` is the newest metric, such as a loss.
    If ``message`` is not empty, it is a sentence, and the other fields describe the current task.
    """

    title: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    message: str = ""


class CallbackDisplay(Display):
    """Prints nothing and passes each event to ``callback``, if there is one."""

    def __init__(self, callback: Callable[[Progress], None] | None = None):
        super().__init__(quiet=True)
        self._callback = callback
        self._current = Progress()

    def say(self, text: str) -> None:
        self._send(Progress(self._current.title, self._current.done, self._current.total, self._current.note, text))

    def start(self, title: str, total: int, done: int = 0) -> None:
        self._current = Progress(title, done, total)
        self._send(self._current)

    def update(self, done: int, note: str | None = None) -> None:
        note = self._current.note if note is None else note
        self._current = Progress(self._current.title, done, self._current.total, note)
        self._send(self._current)

    def finish(self) -> None:
        self._current = Progress()

    def _send(self, event: Progress) -> None:
        if self._callback is not None:
            self._callback(event)


def as_display(progress: Callable[[Progress], None] | Display | None) -> Display:
    """Return a display unchanged; wrap a callback, or None, in a display that prints nothing. Raises PosxError."""
    if progress is not None and not isinstance(progress, Display) and not callable(progress):
        raise PosxError(
            f"progress must be a function, not {progress!r}.", "It is called with a posx.Progress: progress=print."
        )
    return progress if isinstance(progress, Display) else CallbackDisplay(progress)
