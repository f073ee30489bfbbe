"""One study: fetch, `run_study`, and what its end means for the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom import dcmread

from cspine.dicom.headers import quietly
from cspine.errors import CspineError, InputError, NoUsableSeriesError, OutputError, TerminatedError
from fracture_map import names
from fracture_map.messages import Message, StudyMessage
from fracture_map.study import StudyOptions, StudyResult, run_study
from fracture_map.supervise import StopFlag
from fracture_map.watch.claims import Claim, Claims
from fracture_map.watch.earlier import find_in_pacs, lay_out
from fracture_map.watch.outbox import NewResult, Outbox, ResultObject
from fracture_map.watch.pacs import Pacs
from fracture_map.watch.seen import StudySeen
from fracture_map.watch.settings import Timing
from fracture_map.watch.spool import Spool

_READING: tuple[type[CspineError], ...] = (InputError, NoUsableSeriesError)
_KEPT = "It changed and could not be analysed again, so its earlier result stands: "
_UNKNOWN = "No report could be filed, for patient or study are unknown: "


@dataclass(frozen=True)
class Analysis:
    """Analyses claimed studies.

    Attributes:
        pacs: where the images are.
        claims, outbox: of the queue.
        spool: for the images.
        options: of every study; input and output are filled in.
        timing: of retries.
        count: hears exit code and seconds of every analysis.
    """

    pacs: Pacs
    claims: Claims
    outbox: Outbox
    spool: Spool
    options: StudyOptions
    timing: Timing
    count: Callable[[int, float], None] = field(default=lambda code, seconds: None)

    def run(self, claim: Claim, stop: StopFlag) -> bool:
        """Analyse a study.

        Returns:
            Whether its result is recorded, so that it can be sent; else the study was left for later.

        Raises:
            PacsError: the images did not come.
            ClaimLostError: another worker has the study.
            OSError: there is no room for the images.
        """
        seen = self.pacs.look(claim.study_uid)
        if seen is None:
            self.claims.skip(claim, "It is no longer in the PACS.")
            return False
        if seen.content != claim.content:
            self.claims.changed(claim)
            return False
        with self.spool.folder() as folder:
            source, target = self._laid_out(claim, seen, folder)
            heard = _Heard()
            options = replace(self.options, input=source, output=target)
            result = run_study(options, stop, heard)
            self.count(result.exit_code, result.seconds)
            return self._settle(claim, result, heard.was_read)

    def _laid_out(self, claim: Claim, seen: StudySeen, folder: Path) -> tuple[Path, Path]:
        """Fetch the CT into one folder, and the earlier result into the one for the new result."""
        source, target, reports = folder / "in", folder / "out", folder / "reports"
        for path in (source, target, reports):
            path.mkdir()
        for number, series in enumerate(seen.ct):
            self.pacs.fetch(seen.uid, series, source, f"{number:03d}-")
        earlier = self.outbox.current(claim.id) or find_in_pacs(self.pacs, seen, reports)
        if earlier is not None:
            lay_out(earlier, seen.uid, target)
        return source, target

    def _settle(self, claim: Claim, result: StudyResult, was_read: bool) -> bool:
        error = result.error
        if error is None:
            return self._record(claim, result)
        if isinstance(error, TerminatedError):
            self.claims.give_back(claim, None)
            return False
        if isinstance(error, OutputError) and self.spool.is_starved():
            self.claims.give_back(claim, str(error), self.timing.retry_s)
            return False
        if isinstance(error, _READING):
            patience_s = self.timing.incomplete_after_s - claim.quiet_s
            if not was_read and patience_s > 0:
                self.claims.wait_for_more(claim, str(error), patience_s)
                return False
        elif claim.attempts < self.timing.max_attempts:
            self.claims.retry(claim, str(error), self.timing.backoff_s(claim.attempts))
            return False
        return self._record(claim, result)

    def _record(self, claim: Claim, result: StudyResult) -> bool:
        """Record what was published; where nothing could be, a person has to look."""
        if names.REPORT in result.files:
            return self.outbox.record(claim, _new_result(result))
        why = str(result.error)
        if not isinstance(result.error, OutputError):
            why = (_UNKNOWN if result.files else _KEPT) + why
        self.claims.bury(claim, why)
        return False


class _Heard:
    """Remembers whether the images were read as a volume, which tells broken images from all else."""

    def __init__(self) -> None:
        self.was_read = False

    def __call__(self, message: Message) -> None:
        self.was_read |= isinstance(message, StudyMessage)


def _new_result(result: StudyResult) -> NewResult:
    findings = result.findings or {}
    objects = [name for name in result.files if name.endswith(".dcm")]
    objects.sort(key=lambda name: name == names.REPORT)  # the report refers to the others
    return NewResult(
        exit_code=result.exit_code,
        reason=str(result.error) if result.error else None,
        outcome=findings["outcome"],
        probability=findings["overall"]["probability"],
        objects=tuple(_object(result.files[name]) for name in objects),
    )


def _object(path: Path) -> ResultObject:
    with quietly():
        header = dcmread(path, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"], stop_before_pixels=True)
    return ResultObject(str(header.SeriesInstanceUID), str(header.SOPInstanceUID), path.read_bytes())
