"""The source of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from monai.deploy.core import Fragment, InputContext, OperatorSpec, OutputContext

from cspine_operators.clock import StageClock
from cspine_operators.stage import StageOperator

if TYPE_CHECKING:
    from cspine.dicom.series import CtSeries


class LoadOperator(StageOperator):
    """Reads the study.

    Needs ``CountCondition(fragment, 1)``: a source without one ticks for ever.

    Outputs:
        series: `CtSeries`.

    Args:
        read: returns the series; called once.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, clock: StageClock, read: Callable[[], CtSeries], **kwargs: Any
    ) -> None:
        self._read = read
        super().__init__(fragment, *args, clock=clock, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output("series")

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Read, emit."""
        with self.timed():
            series = self._read()
        op_output.emit(series, "series")
