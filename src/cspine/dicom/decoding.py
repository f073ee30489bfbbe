"""Decode a whole series, on all cores.

Uncompressed pixels are read by threads. The decoders of compressed pixels hold the interpreter's lock (two
threads were no faster than one, for each of them), so a long compressed series is shared with helper
processes, which write into the same memory.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from cspine.dicom.frames import Frame
from cspine.dicom.headers import Header, quietly, read_header
from cspine.dicom.pixels import read_frames
from cspine.errors import CspineError, InputError
from cspine.volume import FloatArray

SECONDS_PER_MEGAPIXEL: Final = {
    # Measured on one core on slices of 512 x 512: JPEG lossless 4 ms, JPEG-LS 4.5 ms, JPEG 2000 13 ms.
    "1.2.840.10008.1.2.4.57": 0.016,
    "1.2.840.10008.1.2.4.70": 0.016,
    "1.2.840.10008.1.2.4.80": 0.017,
    "1.2.840.10008.1.2.4.81": 0.017,
    "1.2.840.10008.1.2.4.90": 0.05,
    "1.2.840.10008.1.2.4.91": 0.05,
}
WORTH_HELPERS_S: Final = 1.5
"""Decoding that takes less on one core is not shared: a helper takes 0.4 s to start."""
_CHUNK: Final = 4
"""Files that a helper is given at a time."""


@dataclass(frozen=True, eq=False)
class _Job:
    """Frames of one file, and the slices that they become."""

    header: Header
    slices: tuple[int, ...]
    frames: tuple[Frame, ...]

    def run(self, volume: NDArray[np.int16], shear_px: FloatArray | None) -> None:
        at_px = None if shear_px is None else shear_px[list(self.slices)]
        read_frames(self.header, self.frames, [volume[index] for index in self.slices], at_px)

    def message(self, shear_px: FloatArray | None) -> dict[str, object]:
        """The same for a helper."""
        return {
            "path": str(self.header.path),
            "slices": self.slices,
            "frames": [(frame.index, frame.slope, frame.intercept) for frame in self.frames],
            "at_px": None if shear_px is None else shear_px[list(self.slices)].tolist(),
        }


def read_volume(
    frames: Sequence[Frame], shape: tuple[int, int, int], shear_px: FloatArray | None, threads: int
) -> NDArray[np.int16]:
    """Decode all frames of a series.

    Args:
        frames: one a slice.
        shape: of the volume: slices, rows, columns.
        shear_px: (slices, 2) where the frames go in a wider matrix; None where they fill it.
        threads: how many cores to use.

    Returns:
        int16 (slices, rows, columns) HU, not below -1024.

    Raises:
        InputError: a file, by name, that is truncated or cannot be decoded.
    """
    jobs = _jobs(frames)
    helpers = min(threads, len(jobs)) - 1
    if helpers > 0 and _seconds(frames) > WORTH_HELPERS_S and hasattr(os, "memfd_create"):
        return _with_helpers(jobs, shape, shear_px, helpers)
    volume = np.empty(shape, np.int16)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for _ in pool.map(lambda job: job.run(volume, shear_px), jobs):
            pass
    return volume


def _jobs(frames: Sequence[Frame]) -> list[_Job]:
    files: dict[Header, list[int]] = {}
    for index, frame in enumerate(frames):
        files.setdefault(frame.header, []).append(index)
    return [
        _Job(header, tuple(slices), tuple(frames[index] for index in slices))
        for header, slices in files.items()
    ]


def _seconds(frames: Sequence[Frame]) -> float:
    """About how long one core takes to decode."""
    return sum(
        SECONDS_PER_MEGAPIXEL.get(frame.header.transfer_syntax, 0.0) * frame.shape[0] * frame.shape[1] / 1e6
        for frame in frames
    )


def _with_helpers(
    jobs: list[_Job], shape: tuple[int, int, int], shear_px: FloatArray | None, helpers: int
) -> NDArray[np.int16]:
    """Decode into memory that helper processes share; this process takes its part."""
    waiting: SimpleQueue[list[_Job]] = SimpleQueue()
    for start in range(0, len(jobs), _CHUNK):
        waiting.put(jobs[start : start + _CHUNK])
    with ExitStack() as stack:
        shared = os.memfd_create("ct")
        stack.callback(os.close, shared)
        os.ftruncate(shared, 2 * int(np.prod(shape)))
        volume = _mapped(shared, shape)
        pool = stack.enter_context(ThreadPoolExecutor(helpers))
        tasks = [pool.submit(_drive_helper, waiting, shared, shape, shear_px) for _ in range(helpers)]
        try:
            while (chunk := _next(waiting)) is not None:
                for job in chunk:
                    job.run(volume, shear_px)
        finally:
            # After an error the helpers need not go on; otherwise nothing waits any more.
            while _next(waiting) is not None:
                pass
        for task in tasks:
            task.result()
    return volume


def _mapped(shared: int, shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """The volume in shared memory; it lives for as long as the array."""
    return np.frombuffer(mmap.mmap(shared, 2 * int(np.prod(shape))), np.int16).reshape(shape)


def _next(waiting: SimpleQueue[list[_Job]]) -> list[_Job] | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _drive_helper(
    waiting: SimpleQueue[list[_Job]], shared: int, shape: tuple[int, int, int], shear_px: FloatArray | None
) -> None:
    """Start a helper and feed it for as long as there is work."""
    command = [sys.executable, "-m", "cspine.dicom.decoding", str(shared), *map(str, shape)]
    try:
        with subprocess.Popen(
            command,
            pass_fds=[shared],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as helper:
            assert helper.stdin is not None
            assert helper.stdout is not None
            while (chunk := _next(waiting)) is not None:
                helper.stdin.write(json.dumps([job.message(shear_px) for job in chunk]) + "\n")
                helper.stdin.flush()
                answer = json.loads(helper.stdout.readline())
                if answer is not None:
                    raise InputError(answer)
    except (OSError, ValueError):
        raise CspineError("A process that decodes images ended early; try again.") from None


def help_decoding(shared: int, shape: tuple[int, int, int], requests: IO[str], answers: IO[str]) -> None:
    """Decode what is asked for, line by line, until there is no more: the work of a helper process.

    Args:
        shared: file descriptor of the volume's memory.
        shape: of the volume.
        requests: one JSON list of jobs a line.
        answers: one line for each: null, or the sentence of an InputError.
    """
    volume = _mapped(shared, shape)
    for line in requests:
        answer = None
        try:
            for message in json.loads(line):
                _job(message).run(volume, _placed(message, shape))
        except InputError as error:
            answer = str(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _job(message: dict[str, Any]) -> _Job:
    path = Path(message["path"])
    header = read_header(path)
    if header is None:
        raise InputError(f"'{path.name}' changed while it was read.")
    frames = tuple(
        Frame(header, index, None, None, None, slope, intercept, None, None)
        for index, slope, intercept in message["frames"]
    )
    return _Job(header, tuple(message["slices"]), frames)


def _placed(message: dict[str, Any], shape: tuple[int, int, int]) -> FloatArray | None:
    if message["at_px"] is None:
        return None
    shear_px = np.zeros((shape[0], 2))
    shear_px[message["slices"]] = message["at_px"]
    return shear_px


if __name__ == "__main__":
    with quietly():
        help_decoding(
            int(sys.argv[1]),
            (int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])),
            sys.stdin,
            sys.stdout,
        )
