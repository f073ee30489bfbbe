"""The parent's part: start the analysing process, listen, and end it when it must end.

Signals, the time limit and crashes are dealt with here because a process that computes in native code can
deal with none of them.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from time import monotonic
from types import FrameType
from typing import Final

from cspine.errors import CspineError, TerminatedError, TimeLimitError
from fracture_map.messages import MESSAGES_FD, DoneMessage, FailedMessage, Message, decode

CHILD: Final = (sys.executable, "-W", "ignore", "-m", "fracture_map.child")
_STACK_BYTES: Final = 32 * 1024 * 1024  # what Holoscan's threads want
_GRACE_S: Final = 2.0
_POLL_S: Final = 0.5


class StopFlag:
    """Remembers that SIGTERM or SIGINT came; nothing is interrupted where it must not be."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.wake: int | None = None

    def raise_if_set(self) -> None:
        """Raise where a signal came.

        Raises:
            TerminatedError: it did.
        """
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            raise TerminatedError(f"Stopped by {name} before the study was done; no result was left.")


@contextmanager
def signals_noted() -> Iterator[StopFlag]:
    """Within the block SIGTERM and SIGINT set a flag instead of ending the process."""
    flag = StopFlag()

    def note(number: int, _: FrameType | None) -> None:
        flag.signal = number
        if flag.wake is not None:
            os.write(flag.wake, b".")

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Job:
    """A process to run under supervision.

    Attributes:
        request: what it reads on standard input.
        timeout_s: how long it may take.
        command: the program.
        debug: let what it prints through to standard error.
    """

    request: str
    timeout_s: float
    command: Sequence[str] = CHILD
    debug: bool = False


def supervise(job: Job, stop: StopFlag, tell: Callable[[Message], None]) -> DoneMessage:
    """Run a job to its end.

    Args:
        job: the process.
        stop: ends it early when set.
        tell: gets every message as it comes; what it raises ends the process too.

    Returns:
        The last message of a process that did its work.

    Raises:
        TimeLimitError: the time limit passed.
        TerminatedError: `stop` was set.
        CspineError: with the exit code and sentence that the process gave, or 1 for one that crashed.
    """
    read_fd, write_fd = os.pipe()
    process = _start(job, write_fd)
    try:
        last = listen(read_fd, job, stop, tell)
        code = process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:  # it said its last word, yet hangs on the way out
        code = 0
    finally:
        os.close(read_fd)
        end(process)
    if isinstance(last, FailedMessage):
        raise error_of(last.exit_code, last.sentence)
    if isinstance(last, DoneMessage) and code == 0:
        return last
    raise CspineError(crash_sentence(code))


def error_of(exit_code: int, sentence: str) -> CspineError:
    """The error of the tree with that exit code."""
    kinds = {kind.exit_code: kind for kind in CspineError.__subclasses__()}
    return kinds.get(exit_code, CspineError)(sentence)


def environment(base: Mapping[str, str], messages_fd: int) -> dict[str, str]:
    """The environment of the analysing process."""
    return {
        "HOLOSCAN_CONFIG_PATH": str(files("fracture_map").joinpath("app.yaml")),
        **base,
        "HOLOSCAN_LOG_LEVEL": "ERROR",
        MESSAGES_FD: str(messages_fd),
    }


def spawn(command: Sequence[str], fd: int, *, debug: bool, stdin: int) -> subprocess.Popen[bytes]:
    """Start an analysing process in a session of its own.

    Args:
        command: the program.
        fd: what it inherits, and finds in `MESSAGES_FD`.
        debug: let what it prints through to standard error.
        stdin: as `subprocess.Popen` takes it.
    """
    output = sys.stderr.fileno() if debug else subprocess.DEVNULL
    with _stack_limit():
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment(os.environ, fd),
            pass_fds=(fd,),
            start_new_session=True,
        )


def _start(job: Job, write_fd: int) -> subprocess.Popen[bytes]:
    try:
        process = spawn(job.command, write_fd, debug=job.debug, stdin=subprocess.PIPE)
    finally:
        os.close(write_fd)
    assert process.stdin is not None
    try:
        process.stdin.write(job.request.encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it is gone already; listening finds out why
    return process


@contextmanager
def _stack_limit() -> Iterator[None]:
    """A child started within the block gets the stack that Holoscan asks for, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def listen(read_fd: int, job: Job, stop: StopFlag, tell: Callable[[Message], None]) -> Message | None:
    """Pass messages on until the pipe closes; return the last.

    Raises:
        TimeLimitError: the time limit of the job passed.
        TerminatedError: `stop` was set.
        CspineError: what came was no message.
    """
    deadline, last, pending = monotonic() + job.timeout_s, None, b""
    wake_read, stop.wake = os.pipe()
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(read_fd, selectors.EVENT_READ)
            ready.register(wake_read, selectors.EVENT_READ)
            while True:
                stop.raise_if_set()
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeLimitError(
                        f"The study took longer than the time limit of {job.timeout_s:g} s; "
                        "give more time with --timeout."
                    )
                if not any(key.fd == read_fd for key, _ in ready.select(min(left, _POLL_S))):
                    continue
                chunk = os.read(read_fd, 65536)
                if not chunk:
                    return last
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    last = _understood(line)
                    tell(last)
    finally:
        os.close(wake_read)
        os.close(stop.wake)
        stop.wake = None


def _understood(line: bytes) -> Message:
    try:
        return decode(line)
    except ValueError:
        raise CspineError(
            "What the analysing process said was not understood; please report this defect."
        ) from None


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def crash_sentence(code: int) -> str:
    """What is said of a process that ended without a word."""
    if code >= 0:
        return (
            f"The analysing process ended with exit code {code} and without a result; "
            "run again with FRACTURE_MAP_DEBUG=1 and report what it prints."
        )
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return "The analysing process was killed (SIGKILL), most likely for want of memory; give it 3 GB."
    return (
        f"The analysing process crashed ({name}); run again with FRACTURE_MAP_DEBUG=1 and report what it "
        "prints."
    )
