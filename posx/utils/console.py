"""Progress and messages on standard error: a progress bar on a terminal, plain lines elsewhere. Console for results."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from posx.utils.format import clock

SECONDS_BETWEEN_LINES = 10.0
WIDE = 1000  # columns for a file or a pipe, so that tables are not wrapped


class Display:
    """Shows the progress of one task at a time, and messages. A context manager; ``quiet`` shows only messages."""

    def __init__(self, quiet: bool = False):
        self.console = console(stderr=True)
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._printed = 0.0
        self._title, self._note, self._total, self._first = "", "", 0, 0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def say(self, text: str) -> None:
        """Print a message."""
        self.console.print(text, markup=False, soft_wrap=True)

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Begin a task of ``total`` steps, of which ``done`` are complete."""
        self.finish()
        self._title, self._total = title, total
        self._started = self._printed = time.monotonic()
        self._first, self._note = done, ""
        if self.live:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(title, total=total, completed=done, note="")

    def update(self, done: int, note: str | None = None) -> None:
        """Report ``done`` complete steps. ``note`` is a current value, such as the loss, shown until the next one."""
        self._note = self._note if note is None else note
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=self._note)
            return
        now = time.monotonic()
        if not self.quiet and (now - self._printed > SECONDS_BETWEEN_LINES or done == self._total):
            self._printed = now
            left = (now - self._started) / max(1, done - self._first) * (self._total - done)
            time_left = f"  {clock(left)} left" if left >= 1 else ""
            self.say(f"{self._title}  {done}/{self._total}  {self._note}{time_left}")

    def finish(self) -> None:
        """End the task and remove its progress bar."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


def console(stderr: bool = False) -> Console:
    """A console. If NO_COLOR is set, it is as plain as a pipe: no colour, no bold, no progress bar."""
    if os.environ.get("NO_COLOR"):
        return Console(stderr=stderr, highlight=False, force_terminal=False, color_system=None)
    return Console(stderr=stderr, highlight=False)


def to_stdout() -> Console:
    """The console for results. It is wide enough for any table if the output is a file or a pipe."""
    terminal = console()
    return terminal if sys.stdout.isatty() else Console(highlight=False, width=WIDE)
