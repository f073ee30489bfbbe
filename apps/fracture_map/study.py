"""One study from INPUT to OUTPUT: check, supervise, stage, publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from cspine.errors import (
    CspineError,
    InputError,
    NoUsableSeriesError,
    OutputError,
    TerminatedError,
    UsageError,
)
from cspine.settings import TIMEOUT_S
from fracture_map import names
from fracture_map.account import Account
from fracture_map.messages import DoneMessage, Message, Request, StudyMessage
from fracture_map.publish import Output, opened_output
from fracture_map.staging import staging_folder, write_staged
from fracture_map.supervise import CHILD, Job, StopFlag, error_of, supervise

Analyse = Callable[[Job, StopFlag, Callable[[Message], None]], DoneMessage]
"""Has a job done by an analysing process, as `supervise` does by one of its own."""

ANSWERS: Final = (0, NoUsableSeriesError.exit_code, InputError.exit_code)
"""Exit codes that say something of the study, so that another attempt would say the same; the others say
something of this installation."""

_LEAVES_NOTHING: Final = (OutputError, TerminatedError, UsageError)
"""After these OUTPUT stays as it was."""


@dataclass(frozen=True)
class StudyOptions:
    """What the caller asked for.

    Attributes:
        input: folder, zip or DICOMDIR.
        output: folder for the results; made where absent.
        models: folder of the bundles.
        device: "auto", "cpu" or "cuda".
        timeout_s: time limit of the study.
        debug: let the analysing process print.
        command: the analysing program.
        also: of `names.ALSO`, what is written beside the SR.
    """

    input: Path
    output: Path
    models: Path
    device: str = "auto"
    timeout_s: float = TIMEOUT_S
    debug: bool = False
    command: Sequence[str] = CHILD
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyResult:
    """How a run ended.

    Attributes:
        error: what stopped it; None when it was done.
        files: what was published, name to path.
        findings: the content of findings.json; None where nothing was published.
        seconds: the whole run.
    """

    error: CspineError | None
    files: Mapping[str, Path]
    findings: Mapping[str, Any] | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """The exit code of the contract."""
        return self.error.exit_code if self.error else 0


def run_study(
    options: StudyOptions,
    stop: StopFlag,
    tell: Callable[[Message], None] = lambda _: None,
    analyse: Analyse = supervise,
) -> StudyResult:
    """Analyse one study; OUTPUT holds its complete result afterwards, or what it held before.

    Args:
        options: what to do.
        stop: ends the run early when set.
        tell: hears how it goes.
        analyse: has the analysis done.

    Returns:
        The result; deliberate errors are in it, not raised.
    """
    begin = perf_counter()
    run = _Run(options, stop, tell, Account(options.device, options.timeout_s), analyse)
    error: CspineError | None
    files: Mapping[str, Path] = {}
    try:
        _check_folders(options)
        with opened_output(options.output) as output, staging_folder() as staging:
            error, files = run.analyse_and_publish(output, staging)
    except CspineError as raised:
        error = raised
    findings = json.loads(files[names.FINDINGS].read_bytes()) if files else None
    return StudyResult(error, files, findings, perf_counter() - begin)


@dataclass(frozen=True)
class _Run:
    """One run while it lasts."""

    options: StudyOptions
    stop: StopFlag
    tell: Callable[[Message], None]
    account: Account
    analyse: Analyse

    def analyse_and_publish(
        self, output: Output, staging: Path
    ) -> tuple[CspineError | None, Mapping[str, Path]]:
        """Supervise the analysis; publish what came of it, or the report of its failure."""
        error: CspineError | None
        try:
            error = self._supervise(output, staging)
            staged = {path.name: path for path in staging.iterdir() if path.name in names.PUBLISHED}
        except _LEAVES_NOTHING:
            raise
        except CspineError as raised:
            error, staged = raised, self._stage_failure(output, staging, raised)
        self.stop.raise_if_set()
        if staged:
            staged[names.RUN] = staging / names.RUN
            write_staged(staged[names.RUN], self.account.encode(staged, error))
            output.publish(staged)
        return error, {name: output.path / name for name in names.PUBLISHED if name in staged}

    def _supervise(self, output: Output, staging: Path) -> CspineError | None:
        def on_message(message: Message) -> None:
            self.account.note(message)
            self.tell(message)
            if isinstance(message, StudyMessage):
                output.require_study(message.study_uid)

        earlier = output.earlier.report if output.earlier else None
        request = Request(
            input=str(self.options.input),
            staging=str(staging),
            models=str(self.options.models),
            device=self.options.device,
            previous=str(earlier) if earlier else None,
            also=self.options.also,
        )
        job = Job(request.to_json(), self.options.timeout_s, self.options.command, self.options.debug)
        done = self.analyse(job, self.stop, on_message)
        return error_of(done.exit_code, done.sentence) if done.sentence else None

    def _stage_failure(self, output: Output, staging: Path, error: CspineError) -> dict[str, Path]:
        """The files that say why; none where OUTPUT holds a result that they may not replace."""
        from fracture_map.failure import stage_failure

        for half_done in staging.iterdir():
            half_done.unlink()
        return stage_failure(self.options.input, str(error), staging, output)


def _check_folders(options: StudyOptions) -> None:
    source, target = options.input.resolve(), options.output.resolve()
    if target == source or source in target.parents:
        raise UsageError("OUTPUT must not be INPUT or lie inside it; name another folder.")
