"""What all operators of the graph have in common: one timed stage each."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OutputContext

from cspine_operators.clock import StageClock


class StageOperator(Operator):
    """An operator that is one stage of a study; its Holoscan name is the stage's name.

    Args:
        fragment: the application.
        args, kwargs: conditions and ``name=``, as for every Holoscan operator.
        clock: times the stage.
    """

    def __init__(self, fragment: Fragment, *args: Any, clock: StageClock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(fragment, *args, **kwargs)

    def timed(self) -> AbstractContextManager[None]:
        """The block that is this stage's work."""
        return self._clock.stage(self.name)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Run the stage once (called by Holoscan)."""
        self.work(op_input, op_output)

    def work(self, op_input: InputContext, op_output: OutputContext) -> None:
        """Receive, call, emit."""
        raise NotImplementedError
