"""The ends of the graph: each leaves its files in the outbox and records that it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from monai.deploy.core import Fragment, InputContext, OperatorSpec, OutputContext

from cspine.findings import StudyFindings
from cspine.volume import SpineMask
from cspine_operators.clock import StageClock
from cspine_operators.outbox import Outbox
from cspine_operators.stage import StageOperator
from cspine_operators.values import EncodedDicom, SummaryFiles, WrittenSegmentation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from cspine.dicom.series import CtSeries

SEGMENTATION_FILE: Final = "segmentation.seg.dcm"
REPORT_FILE: Final = "report.sr.dcm"


class WriteSegmentationOperator(StageOperator):
    """Writes the DICOM Segmentation, where there is something to segment.

    Inputs:
        series: `CtSeries`.
        mask: `SpineMask`.
        findings: `StudyFindings`.

    Outputs:
        segmentation: `WrittenSegmentation`, which the report refers to.

    Args:
        encode: makes the Segmentation; None where no vertebra was found.
        outbox: takes the file.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        outbox: Outbox,
        encode: Callable[[CtSeries, SpineMask, StudyFindings], EncodedDicom | None],
        **kwargs: Any,
    ) -> None:
        self._outbox, self._encode = outbox, encode
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("mask")
        spec.input("findings")
        spec.output("segmentation")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, encode, write, emit."""
        series: CtSeries = op_input.receive("series")
        mask: SpineMask = op_input.receive("mask")
        findings: StudyFindings = op_input.receive("findings")
        with self.timed():
            encoded = self._encode(series, mask, findings)
            if encoded:
                self._outbox.write(SEGMENTATION_FILE, encoded.data)
        self._outbox.record(self.name)
        op_output.emit(WrittenSegmentation(encoded.dataset if encoded else None), "segmentation")


class WriteReportOperator(StageOperator):
    """Writes the DICOM Structured Report.

    Inputs:
        series: `CtSeries`.
        findings: `StudyFindings`.
        segmentation: `WrittenSegmentation`.

    Args:
        encode: makes the report; its last argument is the Segmentation, None where there is none.
        outbox: takes the file.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        outbox: Outbox,
        encode: Callable[[CtSeries, StudyFindings, Dataset | None], EncodedDicom],
        **kwargs: Any,
    ) -> None:
        self._outbox, self._encode = outbox, encode
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("findings")
        spec.input("segmentation")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, encode, write."""
        series: CtSeries = op_input.receive("series")
        findings: StudyFindings = op_input.receive("findings")
        segmentation: WrittenSegmentation = op_input.receive("segmentation")
        with self.timed():
            encoded = self._encode(series, findings, segmentation.dataset)
            self._outbox.write(REPORT_FILE, encoded.data)
        self._outbox.record(self.name)


class WriteSummaryOperator(StageOperator):
    """Writes the result for programs and people: findings.json and the one-page report.

    Inputs:
        series: `CtSeries`.
        mask: `SpineMask`.
        findings: `StudyFindings`.

    Args:
        summarise: makes the files.
        outbox: takes them.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        outbox: Outbox,
        summarise: Callable[[CtSeries, SpineMask, StudyFindings], SummaryFiles],
        **kwargs: Any,
    ) -> None:
        self._outbox, self._summarise = outbox, summarise
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("mask")
        spec.input("findings")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, summarise, write."""
        series: CtSeries = op_input.receive("series")
        mask: SpineMask = op_input.receive("mask")
        findings: StudyFindings = op_input.receive("findings")
        with self.timed():
            for name, data in self._summarise(series, mask, findings).files.items():
                self._outbox.write(name, data)
        self._outbox.record(self.name)
