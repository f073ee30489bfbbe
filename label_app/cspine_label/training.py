"""Training in the background: a process of its own per run, watched, stopped, and dropped where it fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cspine.errors import CspineError
from cspine.findings import Decision
from cspine.settings import CLASSIFICATION, SEGMENTATION
from cspine_label.cases import FINAL
from cspine_label.errors import ConflictError, UnknownNameError
from cspine_label.job import EVALUATION, LOG, PROGRESS, Job, LabelledFile, TrainingPlan, is_validation

if TYPE_CHECKING:
    from cspine_label.desk import Desk

log = logging.getLogger(__name__)

PROGRAMS: Final = {
    SEGMENTATION: "cspine_label.training_job",
    CLASSIFICATION: "cspine_label.classifier_job",
}
TRAINABLE: Final = tuple(PROGRAMS)
STOP_S: Final = 5.0
LOG_LINES: Final = 40


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of its candidate.
        model: the bundle that is trained.
        params: as they were asked for.
        status: RUNNING, DONE, ERROR or CANCELED, as MONAI Label's clients know them.
        started, ended: seconds since 1970.
        exit_code: of the process.
        message: one sentence on how it ended.
        log: its last lines.
    """

    name: str
    model: str
    params: Mapping[str, Any]
    status: str = "RUNNING"
    started: float = field(default_factory=time.time)
    ended: float | None = None
    exit_code: int | None = None
    message: str = ""
    log: tuple[str, ...] = ()


class Training:
    """At most one training at a time."""

    def __init__(self, desk: Desk, workspace: Path) -> None:
        self._desk, self._folder = desk, workspace / "candidates"
        self._lock = threading.RLock()
        self._runs: list[Run] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether one runs now."""
        return bool(self._runs) and self._runs[-1].status == "RUNNING"

    def start(self, model: str, params: Mapping[str, Any]) -> Run:
        """Start one on all final labels.

        Raises:
            UnknownNameError: a model that is not trained here.
            ConflictError: one runs already, or there is nothing to train on.
            RefusedLabelError: parameters out of bounds.
        """
        if model not in TRAINABLE:
            raise UnknownNameError(f"There is no training of '{model}'; choose {' or '.join(TRAINABLE)}.")
        plan = TrainingPlan.read(params)
        with self._lock:
            if self.is_running:
                raise ConflictError("A training runs already; stop it or wait until it has ended.")
            labelled = self._taught(model)
            check(model, plan, labelled)
            self._stopping.clear()
            folder = self._desk.shelf.new_candidate(time.strftime("%Y%m%d-%H%M%S"))
            self._runs.append(Run(folder.name, model, asdict(plan)))
            threading.Thread(target=self._work, args=(folder, model, plan, labelled), daemon=True).start()
            return self._runs[-1]

    def stop(self) -> None:
        """Stop the one that runs; its candidate is dropped."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def status(self) -> list[dict[str, Any]]:
        """Every training since the server was started, oldest first."""
        return [self._told(run) for run in list(self._runs)]

    def _told(self, run: Run) -> dict[str, Any]:
        lines = list(run.log) if run.status != "RUNNING" else _tail(self._folder / run.name / LOG)
        return {
            "id": run.name,
            "model": run.model,
            "candidate": run.name,
            "status": run.status,
            "start_ts": int(run.started),
            "end_ts": int(run.ended) if run.ended else None,
            "exit_code": run.exit_code,
            "params": dict(run.params),
            "progress": 1.0 if run.status == "DONE" else self._progress(run),
            "message": run.message,
            "details": lines,
        }

    def _progress(self, run: Run) -> float:
        try:
            return float(json.loads((self._folder / run.name / PROGRESS).read_text("utf-8"))["progress"])
        except (OSError, ValueError, KeyError):
            return 0.0

    def _work(self, folder: Path, model: str, plan: TrainingPlan, labelled: tuple[str, ...]) -> None:
        """On a thread of its own: gather the files, run the process, and say how it ended."""
        try:
            self._gather(model, plan, labelled).write(folder)
            exit_code = self._watch(model, folder)
        except (CspineError, OSError) as error:
            self._ended(folder, "ERROR", None, str(error))
            return
        if exit_code == 0 and (folder / EVALUATION).exists():
            self._ended(folder, "DONE", 0, "The candidate was evaluated; promote it to put it into use.")
        elif self._stopping.is_set():
            self._ended(folder, "CANCELED", exit_code, "The training was stopped; its candidate was dropped.")
        else:
            how = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
            self._ended(
                folder, "ERROR", exit_code, f"The training failed ({how}); its candidate was dropped."
            )

    def _taught(self, model: str) -> tuple[str, ...]:
        """Cases that teach a model: with a final label and, for fractures, a level that was decided."""
        labelled = self._desk.labelled()
        return labelled if model == SEGMENTATION else tuple(c for c in labelled if self._is_judged(c))

    def _is_judged(self, case: str) -> bool:
        record = self._desk.labels.record(case, FINAL)
        said = record.annotations.values() if record else ()
        return any(level.decision is not Decision.UNDETERMINED for level in said)

    def _gather(self, model: str, plan: TrainingPlan, labelled: tuple[str, ...]) -> Job:
        files: dict[bool, list[LabelledFile]] = {True: [], False: []}
        for case in labelled:
            image = self._desk.images.path(case)
            label = self._desk.label_file(case, FINAL)
            record = self._desk.labels.record(case, FINAL)
            said = record.fractures if record else {}
            files[is_validation(case)].append(LabelledFile(case, str(image), str(label), said))
        reference = self._desk.shelf.root(self._desk.shelf.active)
        return Job(model, str(reference), plan, files[False], files[True])

    def _watch(self, model: str, folder: Path) -> int:
        if self._stopping.is_set():
            return 1
        command = (sys.executable, "-m", PROGRAMS[model], str(folder))
        with (folder / LOG).open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                return self._process.wait()
            finally:
                self._process = None

    def _ended(self, folder: Path, status: str, exit_code: int | None, message: str) -> None:
        lines = tuple(_tail(folder / LOG))
        if status != "DONE":
            self._desk.shelf.drop(folder.name)
        with self._lock:
            self._runs[-1] = replace(
                self._runs[-1],
                status=status,
                ended=time.time(),
                exit_code=exit_code,
                message=message,
                log=lines,
            )
        self._desk.history.note("trained", candidate=folder.name, status=status)


def check(model: str, plan: TrainingPlan, cases: Sequence[str]) -> None:
    """Refuse a training that could teach or prove nothing.

    Args:
        model: that is trained.
        plan: of the training.
        cases: those that teach the model.

    Raises:
        ConflictError: why it could not.
    """
    kept = sum(map(is_validation, cases))
    if len(cases) == kept:
        what = "a final label" if model == SEGMENTATION else "a level judged present or absent"
        raise ConflictError(
            f"There is nothing to train on: {len(cases)} cases have {what}, and {kept} of them belong to "
            "the fixed validation set."
        )
    if not plan.validation_phantoms and not kept:
        raise ConflictError("There is nothing to compare candidates on; set validation_phantoms above 0.")
    if model == CLASSIFICATION and not plan.phantoms:
        raise ConflictError(
            "A few judged levels alone would not teach what a fracture is; set phantoms above 0."
        )


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []
