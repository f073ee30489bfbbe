"""The MONAI Deploy application: the graph of one study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holoscan.schedulers import EventBasedScheduler
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from cspine.crops import ModelGrids, VertebraCrop
from cspine.findings import StudyFindings
from cspine.volume import SpineMask, Volume
from cspine_operators.analysis import ClassifyOperator, CropOperator, PreprocessOperator, SegmentOperator
from cspine_operators.clock import StageClock
from cspine_operators.load import LoadOperator
from cspine_operators.outbox import Outbox
from cspine_operators.values import EncodedDicom, SummaryFiles
from cspine_operators.writers import WriteReportOperator, WriteSegmentationOperator, WriteSummaryOperator
from fracture_map.names import WRITERS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from cspine.dicom.series import CtSeries


@dataclass(frozen=True)
class Steps:
    """The functions that the operators call, one each."""

    read: Callable[[], CtSeries]
    model_grids: Callable[[Volume], ModelGrids]
    segment: Callable[[ModelGrids, Volume], SpineMask]
    crop: Callable[[Volume, SpineMask], Sequence[VertebraCrop]]
    judge: Callable[[CtSeries, SpineMask, Sequence[VertebraCrop]], StudyFindings]
    encode_segmentation: Callable[[CtSeries, SpineMask, StudyFindings], EncodedDicom | None]
    encode_report: Callable[[CtSeries, StudyFindings, Dataset | None], EncodedDicom]
    summarise: Callable[[CtSeries, SpineMask, StudyFindings], SummaryFiles]


class FractureMap(Application):
    """CT in, findings out: one study, one run.

    Args:
        steps: what the operators call.
        outbox: takes the files.
        clock: times the stages.
    """

    def __init__(self, steps: Steps, outbox: Outbox, clock: StageClock) -> None:
        self._steps, self._outbox, self._clock = steps, outbox, clock
        super().__init__([sys.executable])  # without this it would read the command line of the process

    def compose(self) -> None:
        """Construct the operators, then connect them."""
        steps, clock, out = self._steps, self._clock, self._outbox
        read = LoadOperator(self, CountCondition(self, 1), name="read", clock=clock, read=steps.read)
        prepare = PreprocessOperator(self, name="preprocess", clock=clock, model_grids=steps.model_grids)
        segment = SegmentOperator(self, name="segment", clock=clock, segment=steps.segment)
        crop = CropOperator(self, name="crop", clock=clock, crop=steps.crop)
        classify = ClassifyOperator(self, name="classify", clock=clock, judge=steps.judge)
        write_seg = WriteSegmentationOperator(
            self, name="write_segmentation", clock=clock, outbox=out, encode=steps.encode_segmentation
        )
        write_sr = WriteReportOperator(
            self, name="write_report", clock=clock, outbox=out, encode=steps.encode_report
        )
        write_summary = WriteSummaryOperator(
            self, name="write_summary", clock=clock, outbox=out, summarise=steps.summarise
        )
        for needs_series in (prepare, segment, crop, classify, write_seg, write_sr, write_summary):
            self.add_flow(read, needs_series, {("series", "series")})
        self.add_flow(prepare, segment, {("grids", "grids")})
        for needs_mask in (crop, classify, write_seg, write_summary):
            self.add_flow(segment, needs_mask, {("mask", "mask")})
        self.add_flow(crop, classify, {("crops", "crops")})
        for needs_findings in (write_seg, write_sr, write_summary):
            self.add_flow(classify, needs_findings, {("findings", "findings")})
        self.add_flow(write_seg, write_sr, {("segmentation", "segmentation")})


def run_graph(steps: Steps, outbox: Outbox, clock: StageClock) -> None:
    """Run one study through the graph; afterwards the outbox holds all its files.

    Raises:
        CspineError: as the failing stage raised it, or a stage ended without a result.
    """
    app = FractureMap(steps, outbox, clock)
    # Two workers: the page is drawn while the SEG and then the SR are written.
    app.scheduler(EventBasedScheduler(app, worker_thread_number=2, name="scheduler"))
    app.run()
    outbox.require(*WRITERS)
