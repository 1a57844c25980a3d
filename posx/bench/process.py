"""Processes that work when they are asked, with memory of their own: what posx bench measures in.

:class:`Child` asks; on its other end, a module or a script, runs :func:`serve`, whose first line of standard input says
what to build. Every further one asks for work, and a line of JSON answers each. When its input ends, so does it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from posx.errors import PosxError


def serve(build: Callable[[dict[str, Any]], Any]) -> None:
    """Build a worker from the first line of standard input, and let it answer the others, until they end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        os._exit(0)  # whoever asked is gone: nobody waits for the end of a burst

    threading.Thread(target=listen, daemon=True).start()
    worker = None
    while True:
        request = requests.get()
        try:
            if worker is None:
                worker = build(request)
                answer = worker.about()
            else:
                answer = worker.answer(request)
        except PosxError as error:
            answer = {"error": str(error)}
        except Exception as error:  # one scheme's bug or lack of memory is a dash in the table of all
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Refused(Exception):
    """A child could not do what it was asked; the reason is the text."""


class Died(Refused):
    """The child is gone."""


class Child:
    """A process that works when it is asked, see :func:`serve`; it ends with :meth:`end`, or with this one.

    ``arguments`` are Python's: ``-m MODULE NAME``, or a script's file and what it takes.
    """

    def __init__(self, arguments: Sequence[str], spec: dict[str, Any]):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C reaches it through us, with what it may have started
            # The compiler's own workers would be processes, each with a torch of its own in memory.
            env=os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )
        try:
            self.about = self.ask(spec)
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises Refused, or Died."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Died(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            why = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{why}"
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return f"its process ended with exit code {code}: {lines[-1].strip() if lines else 'it said nothing'}"

    def end(self) -> None:
        """Kill it, with what it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            with suppress(BrokenPipeError):  # a request that it did not live to read
                file.close()  # type: ignore[union-attr]
