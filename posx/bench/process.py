"""Child processes that posx bench measures in, each with its own memory.

:class:`Child` starts a module or script that calls :func:`serve`. The first line of its standard input is the spec of
the worker to build; each further line is a request, answered with one line of JSON. It exits at the end of its input.
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
    """Build a worker from the first line of standard input, and answer the requests on all further lines."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps anything that a library prints out of the answers
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        os._exit(0)  # the parent is gone: do not finish the burst

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
        except Exception as error:  # a bug or lack of memory in one scheme becomes a dash in the table
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Refused(Exception):
    """A child could not fulfil a request; the message is the reason."""


class Died(Refused):
    """The child process has ended."""


class Child:
    """A child process that answers requests, see :func:`serve`. It ends with :meth:`end`, or with its parent.

    ``arguments``: for the Python interpreter, ``-m MODULE NAME`` or a script and its arguments.
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
            start_new_session=True,  # on Ctrl-C, the parent ends it together with its own children
            # The compiler's workers would be further processes, each with its own copy of torch in memory.
            env=os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )
        try:
            self.about = self.ask(spec)
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer. Raises Refused or Died."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Died(self._cause_of_death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def _cause_of_death(self) -> str:
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (often a sign that memory ran out)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return f"its process ended with exit code {code}: {lines[-1].strip() if lines else 'no output'}"

    def end(self) -> None:
        """Kill the process and its own children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            with suppress(BrokenPipeError):  # from a request that it never read
                file.close()  # type: ignore[union-attr]
