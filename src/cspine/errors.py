"""The errors of Fracture Map: a small tree, each with the exit code that the command returns.

A message is one sentence that says what was found and what to do about it. It never holds a
patient's name, identifier, date of birth or a UID.

::

    CspineError                1   a defect of the software
    +-- UsageError             2   the command was called wrongly
    +-- NoUsableSeriesError    3   the input was read but holds no CT of the neck that can be analysed
    +-- InputError             4   the input cannot be read or contradicts itself
    +-- ModelError             5   a bundle, its weights or the device to run them on
    +-- OutputError            6   results cannot be written
    +-- TimeLimitError       124   the time limit passed
    +-- TerminatedError      143   asked to stop
"""

from __future__ import annotations

from typing import ClassVar


class CspineError(Exception):
    """Base of every deliberate failure; raised itself only for defects of this software."""

    exit_code: ClassVar[int] = 1


class UsageError(CspineError):
    """The command or an option was given wrongly."""

    exit_code = 2


class NoUsableSeriesError(CspineError):
    """The input could be read but no series in it can be analysed."""

    exit_code = 3


class InputError(CspineError):
    """The input is unreadable, incomplete or contradicts itself."""

    exit_code = 4


class ModelError(CspineError):
    """A bundle, its weights, or the device they should run on."""

    exit_code = 5


class OutputError(CspineError):
    """A result cannot be written or did not pass its checks."""

    exit_code = 6


class TimeLimitError(CspineError):
    """The study took longer than the time limit."""

    exit_code = 124


class TerminatedError(CspineError):
    """The process was asked to stop (SIGTERM or SIGINT)."""

    exit_code = 143


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that stands for `error`; anything not deliberate is a bug, 1."""
    return error.exit_code if isinstance(error, CspineError) else 1
