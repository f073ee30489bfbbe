"""The analysing process: reads a request, runs the graph, tells how it goes.

It is started by `fracture_map.supervise` and ends with it. It writes only into the staging folder and to the
pipe of messages; whatever libraries print goes nowhere, because it may hold names of patients.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cspine.dicom import read_ct
from cspine.errors import CspineError, NoUsableSeriesError, exit_code_of
from cspine_operators.clock import StageClock
from cspine_operators.outbox import Outbox
from fracture_map.messages import (
    MESSAGES_FD,
    DoneMessage,
    FailedMessage,
    Message,
    Request,
    StageMessage,
    StudyMessage,
    encode,
)
from fracture_map.names import FINDINGS, START

if TYPE_CHECKING:
    from cspine.dicom.series import CtSeries
    from cspine.method import Method

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

# One thread each, so that a second study of this process finds what is being loaded for the first.
_READER: Final = ThreadPoolExecutor(1, "read")
_LOADER: Final = ThreadPoolExecutor(1, "load")

Tell = Callable[[Message], None]


def load_method(models: str, device: str) -> Method:
    """Load the networks, and the libraries that they need."""
    from cspine.method import Method

    return Method.load(Path(models), device)


def analyse(request: Request, tell: Tell, load: Callable[[str, str], Method] = load_method) -> None:
    """Analyse one study; its files are in the staging folder when this returns.

    The study is read while the libraries and networks are loaded, which takes about as long. One that cannot
    be read ends this at once; the networks are then loaded on, for whatever comes next.

    Args:
        request: what to do.
        tell: hears how it goes.
        load: gives the networks of a folder on a device.

    Raises:
        CspineError: whatever stopped it.
    """
    clock = StageClock(lambda time: tell(StageMessage(time.name, time.seconds)))
    reading = _READER.submit(_read, Path(request.input), tell)
    loading = _LOADER.submit(_prepare, request, load)
    with clock.stage(START):
        begun: tuple[Future[Any], ...] = (reading, loading)
        wait(begun, return_when=FIRST_COMPLETED)
        if reading.done():
            reading.result()
        method = loading.result()
    from fracture_map.app import run_graph
    from fracture_map.steps import steps_of

    previous = Path(request.previous) if request.previous else None
    steps = steps_of(method, reading.result, previous, request.also)
    run_graph(steps, Outbox(Path(request.staging)), clock)
    tell(_done(Path(request.staging), method.device))


def _prepare(request: Request, load: Callable[[str, str], Method]) -> Method:
    """Import what takes seconds to import, and load the networks."""
    import_module("fracture_map.app")
    import_module("fracture_map.steps")
    return load(request.models, request.device)


def _read(source: Path, tell: Tell) -> CtSeries:
    series = read_ct(source)
    left_out = tuple((left.count, left.reason) for left in series.left_out)
    tell(StudyMessage(series.study_uid, left_out, series.warnings))
    return series


def _done(staging: Path, device: str) -> DoneMessage:
    failure = json.loads((staging / FINDINGS).read_bytes())["failure"]
    if failure is None:
        return DoneMessage(device)
    return DoneMessage(device, NoUsableSeriesError.exit_code, failure)


def failure_of(error: BaseException) -> FailedMessage:
    """What the parent is told of an error; of a defect only its kind, for its text may hold anything."""
    if isinstance(error, CspineError):
        return FailedMessage(error.exit_code, str(error))
    if isinstance(error, MemoryError):
        sentence = "There was not enough memory for this study; give the process at least 3 GB."
    else:
        sentence = (
            f"A defect of the software stopped the analysis ({type(error).__name__}); "
            "run again with FRACTURE_MAP_DEBUG=1 and report what it prints."
        )
    return FailedMessage(exit_code_of(error), sentence)


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that happens."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def answer(request: str, pipe: BinaryIO, work: Callable[[Request, Tell], None]) -> int:
    """Do one request and tell of it through a pipe; returns the study's exit code."""
    lock = Lock()

    def tell(message: Message) -> None:
        with lock:
            pipe.write(encode(message))

    try:
        work(Request.from_json(request), tell)
    except Exception as error:
        if os.environ.get("FRACTURE_MAP_DEBUG") == "1":
            sys.excepthook(type(error), error, error.__traceback__)
        failed = failure_of(error)
        tell(failed)
        return failed.exit_code
    return 0


def main(work: Callable[[Request, Tell], None] = analyse) -> int:
    """Run one request from standard input; the exit code is the study's."""
    die_with_parent()
    with os.fdopen(int(os.environ[MESSAGES_FD]), "wb", buffering=0) as pipe:
        return answer(sys.stdin.read(), pipe, work)


if __name__ == "__main__":
    # Holoscan's and CUDA's threads need not be waited for: everything that matters is on disk and told.
    code = main()
    sys.stderr.flush()
    os._exit(code)
