"""The one training loop: AdamW, cosine, EMA, mixed precision, clipping, checkpoints, a time limit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast

import torch
from torch._dynamo.exc import BackendCompilerFailed

from cspine.errors import ModelError, UsageError
from cspine.models.device import autocast
from cspine.training.checkpoint import Checkpoint, config_sha256

log = logging.getLogger(__name__)

CHECKPOINT: Final = "checkpoint.pt"
MAY_CHANGE: Final = ("steps", "minutes", "checkpoint_s", "log_steps", "tensorboard", "compiled")
"""Parts of the plan that a resumed run may change."""

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[torch.nn.Module, Batch], Mapping[str, torch.Tensor]]
"""From network and batch (on the device) to named scalars; "loss" is the one that is minimised."""


class Batches(Protocol):
    """The batch of each optimizer step, on the CPU.

    The same step gives the same batch, so that a resumed run equals an uninterrupted one (to the extent that
    the data behind it are the same).
    """

    def __call__(self, step: int, /) -> Batch:
        """Make the batch of `step`."""
        ...


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps: optimizer steps at most.
        minutes: wall-clock minutes at most, over all starts of the run; None for no limit. The learning
            rate's cosine ends with whichever of the two comes first.
        learning_rate: the peak.
        warmup_steps: steps of linear rise to it.
        weight_decay: of AdamW.
        ema_decay: of the moving average of the weights, which is the result.
        clip_norm: largest norm of the gradient.
        seed: of everything random.
        checkpoint_s: seconds between checkpoints.
        log_steps: steps between lines of the progress log.
        tensorboard: write TensorBoard events beside the checkpoint.
        compiled: let PyTorch compile the network first, which takes a minute for each size of batch. On a
            CPU a step of the segmentation then takes 0.6 of the time; a C++ compiler must be there.
    """

    steps: int = 10_000
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-4
    ema_decay: float = 0.995
    clip_norm: float = 5.0
    seed: int = 0
    checkpoint_s: float = 120.0
    log_steps: int = 20
    tensorboard: bool = False
    compiled: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained.

    Attributes:
        network: trained in place.
        batches: the batch of each step; the next one is made while the current one is computed.
        loss: what is minimised.
        config: whatever defines the run beside the plan (data, bundle): another one refuses to resume.
    """

    network: torch.nn.Module
    batches: Batches
    loss: Loss
    config: Mapping[str, Any] = field(default_factory=dict)


def fit(
    task: Task,
    plan: Plan,
    folder: Path,
    device: torch.device,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint:
    """Train a network and return the last checkpoint; its `average` holds the weights to use.

    Where `folder` holds a checkpoint of the same config the run goes on from there.

    Args:
        task: what to train.
        plan: how to train it.
        folder: for checkpoint.pt and TensorBoard's events; made where it is missing.
        device: where to compute.
        on_checkpoint: called after each checkpoint was written.

    Raises:
        ModelError: the loss is no longer a finite number.
        UsageError: the checkpoint in `folder` belongs to another config, or nothing can be compiled here.
        InputError: it cannot be read.
        OutputError: a checkpoint cannot be written.
    """
    torch.manual_seed(plan.seed)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(task, plan, device)
    if (folder / CHECKPOINT).exists():
        run.restore(Checkpoint.load(folder / CHECKPOINT, run.config_sha256))
    saved = run.elapsed_s
    with _events(folder if plan.tensorboard else None) as record, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(task.batches, run.step)
        while not run.finished:
            batch, coming = coming.result(), ahead.submit(task.batches, run.step + 1)
            values = run.train_on(batch)
            if run.step % plan.log_steps == 0:
                run.report(values, record)
            if run.elapsed_s - saved >= plan.checkpoint_s:
                saved = run.elapsed_s
                _keep(run.checkpoint(), folder, on_checkpoint)
    return _keep(run.checkpoint(), folder, on_checkpoint)


def _keep(checkpoint: Checkpoint, folder: Path, then: Callable[[Checkpoint], None] | None) -> Checkpoint:
    checkpoint.save(folder / CHECKPOINT)
    if then is not None:
        then(checkpoint)
    return checkpoint


class _Run:
    """The state of one training run."""

    def __init__(self, task: Task, plan: Plan, device: torch.device) -> None:
        self.network, self.loss = task.network.to(device).train(), task.loss
        self.plan, self.device = plan, device
        # Both have the same weights; one that is compiled for sizes it knows is faster than one for any.
        self.computed = self.network
        if plan.compiled:
            self.computed = cast(torch.nn.Module, torch.compile(self.network, dynamic=False))
        # The limits may be raised when a run is resumed; everything else must be the same.
        fixed = {name: value for name, value in vars(plan).items() if name not in MAY_CHANGE}
        self.config_sha256 = config_sha256(fixed, dict(task.config))
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step = 0
        self._before_s, self._started = 0.0, time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """From 0 at the start to 1 at the end, by steps or by time, whichever is further."""
        done = self.step / self.plan.steps
        return done if self.plan.minutes is None else max(done, self.elapsed_s / (60 * self.plan.minutes))

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    def train_on(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; returns the loss's parts."""
        rate = self.plan.learning_rate * 0.5 * (1 + math.cos(math.pi * min(self.progress, 1)))
        rate *= min(1.0, (self.step + 1) / max(self.plan.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        self.optimizer.zero_grad(set_to_none=True)
        values = self._values(batch)
        if not torch.isfinite(values["loss"]):
            raise ModelError(
                f"The loss is not a finite number after {self.step} steps: lower the learning rate."
            )
        values["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return {name: float(value.detach()) for name, value in values.items()}

    def _values(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        try:
            with autocast(self.device):
                return self.loss(self.computed, batch)
        except BackendCompilerFailed as error:
            raise UsageError(
                "The network cannot be compiled here: install a C++ compiler, or train it as it is."
            ) from error

    @torch.no_grad()
    def _follow(self) -> None:
        # Early on the average follows quickly, so that the random start is soon forgotten.
        decay = min(self.plan.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def report(self, values: Mapping[str, float], record: Callable[[str, float, int], None]) -> None:
        for name, value in values.items():
            record(name, value, self.step)
        parts = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        log.info("step %d, %.1f min, %.0f %%: %s", self.step, self.elapsed_s / 60, 100 * self.progress, parts)

    def checkpoint(self) -> Checkpoint:
        def copied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: value.detach().cpu().clone() for name, value in state.items()}

        return Checkpoint(
            config_sha256=self.config_sha256,
            step=self.step,
            elapsed_s=self.elapsed_s,
            network=copied(self.network.state_dict()),
            average=copied(self.average),
            optimizer=self.optimizer.state_dict(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        self.network.load_state_dict(checkpoint.network)
        self.average = {name: value.to(self.device) for name, value in checkpoint.average.items()}
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.step, self._before_s = checkpoint.step, checkpoint.elapsed_s
        log.info("resumed at step %d after %.1f minutes", self.step, self.elapsed_s / 60)


@contextmanager
def _events(folder: Path | None) -> Iterator[Callable[[str, float, int], None]]:
    if folder is None:
        yield lambda _name, _value, _step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        yield writer.add_scalar
