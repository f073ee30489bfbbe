"""An analysing process that keeps its networks, for one study after the other: the parent's part."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from cspine.errors import CspineError
from fracture_map.messages import DoneMessage, FailedMessage, Message
from fracture_map.study import ANSWERS
from fracture_map.supervise import Job, StopFlag, crash_sentence, end, error_of, listen, spawn

WARM_CHILD: Final = (sys.executable, "-W", "ignore", "-m", "fracture_map.batch.warm_child")
_GRACE_S: Final = 2.0
_STUDIES_A_PROCESS: Final = 200
"""After so many a new process begins, whatever the libraries in the old one have kept."""


class WarmAnalyst:
    """Does jobs as `fracture_map.supervise.supervise` does, by a process that serves many.

    The process is started when it is first needed, and anew after a crash, a time limit or anything else that
    leaves it in doubt. It ends with the thread that started it, at the latest.

    Args:
        command: the process.
    """

    def __init__(self, command: Sequence[str] = WARM_CHILD) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._served = 0

    def __call__(self, job: Job, stop: StopFlag, tell: Callable[[Message], None]) -> DoneMessage:
        """Have a job done (`fracture_map.study.Analyse`).

        Raises:
            CspineError: as `supervise` does.
        """
        read_fd, write_fd = os.pipe()
        try:
            self._ask(job, write_fd)
            last = listen(read_fd, job, stop, tell)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(read_fd)
        if isinstance(last, DoneMessage):
            return last
        if isinstance(last, FailedMessage):
            if last.exit_code not in ANSWERS:
                self.close()
            raise error_of(last.exit_code, last.sentence)
        raise CspineError(crash_sentence(self._exit_code()))

    def close(self) -> None:
        """End the process."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            end(self._process)
            self._process = None

    def _ask(self, job: Job, write_fd: int) -> None:
        """Hand over the request, and the pipe on which it is to be answered."""
        try:
            if (
                self._process is None
                or self._process.poll() is not None
                or self._served >= _STUDIES_A_PROCESS
            ):
                self._start(job.debug)
            self._served += 1
            assert self._requests is not None
            with suppress(OSError):  # it is gone already; listening finds out why
                socket.send_fds(self._requests, [job.request.encode()], [write_fd])
        finally:
            os.close(write_fd)

    def _start(self, debug: bool) -> None:
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = spawn(self._command, theirs.fileno(), debug=debug, stdin=subprocess.DEVNULL)
        self._requests, self._served = ours, 0

    def _exit_code(self) -> int:
        """How it ended that closed the pipe without a last word."""
        assert self._process is not None
        try:
            return self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return 0
        finally:
            self.close()
