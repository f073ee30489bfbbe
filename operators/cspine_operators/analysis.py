"""From the series to the findings: the four operators that compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from monai.deploy.core import Fragment, InputContext, OperatorSpec, OutputContext

from cspine.crops import ModelGrids, VertebraCrop
from cspine.findings import StudyFindings
from cspine.volume import SpineMask, Volume
from cspine_operators.clock import StageClock
from cspine_operators.stage import StageOperator
from cspine_operators.values import VertebraCrops

if TYPE_CHECKING:
    from cspine.dicom.series import CtSeries


class PreprocessOperator(StageOperator):
    """Resamples the whole CT onto the grids of the networks that look for the spine.

    Inputs:
        series: `CtSeries`.

    Outputs:
        grids: `ModelGrids`.

    Args:
        model_grids: the function that does it.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        model_grids: Callable[[Volume], ModelGrids],
        **kwargs: Any,
    ) -> None:
        self._model_grids = model_grids
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.output("grids")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, resample, emit."""
        series: CtSeries = op_input.receive("series")
        with self.timed():
            grids = self._model_grids(series.volume)
        op_output.emit(grids, "grids")


class SegmentOperator(StageOperator):
    """Names the vertebrae, on the grid of the CT.

    Inputs:
        series: `CtSeries`.
        grids: `ModelGrids`.

    Outputs:
        mask: `SpineMask`.

    Args:
        segment: makes the mask from the model grids and the volume, on the volume's grid.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        segment: Callable[[ModelGrids, Volume], SpineMask],
        **kwargs: Any,
    ) -> None:
        self._segment = segment
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("grids")
        spec.output("mask")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, segment, emit."""
        series: CtSeries = op_input.receive("series")
        grids: ModelGrids = op_input.receive("grids")
        with self.timed():
            mask = self._segment(grids, series.volume)
        op_output.emit(mask, "mask")


class CropOperator(StageOperator):
    """Cuts the vertebrae out of the CT at the classifier's resolution.

    Inputs:
        series: `CtSeries`.
        mask: `SpineMask`.

    Outputs:
        crops: `VertebraCrops`.

    Args:
        crop: the function that does it.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        crop: Callable[[Volume, SpineMask], Sequence[VertebraCrop]],
        **kwargs: Any,
    ) -> None:
        self._crop = crop
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("mask")
        spec.output("crops")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, crop, emit."""
        series: CtSeries = op_input.receive("series")
        mask: SpineMask = op_input.receive("mask")
        with self.timed():
            crops = VertebraCrops(tuple(self._crop(series.volume, mask)))
        op_output.emit(crops, "crops")


class ClassifyOperator(StageOperator):
    """Scores the vertebrae and decides.

    Inputs:
        series: `CtSeries`.
        mask: `SpineMask`.
        crops: `VertebraCrops`.

    Outputs:
        findings: `StudyFindings`, with the seconds of the stages up to this one.

    Args:
        judge: makes the findings.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        clock: StageClock,
        judge: Callable[[CtSeries, SpineMask, Sequence[VertebraCrop]], StudyFindings],
        **kwargs: Any,
    ) -> None:
        self._judge = judge
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("series")
        spec.input("mask")
        spec.input("crops")
        spec.output("findings")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, classify, emit."""
        series: CtSeries = op_input.receive("series")
        mask: SpineMask = op_input.receive("mask")
        crops: VertebraCrops = op_input.receive("crops")
        with self.timed():
            findings = self._judge(series, mask, crops.crops)
        op_output.emit(replace(findings, seconds=self._clock.seconds), "findings")
