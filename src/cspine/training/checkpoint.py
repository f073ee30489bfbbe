"""What survives a killed training run, and how trained weights get into a bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from cspine.errors import InputError, ModelError, UsageError
from cspine.models.bundle import METADATA, WEIGHTS, file_sha256, read_json
from cspine.whole_files import write_text, write_whole

MAX_WEIGHTS_BYTES: Final = 16 * 2**20
"""Reference weights stay in the repository, so they stay small."""

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a run needs to go on as if it had not stopped.

    Attributes:
        config_sha256: of the plan and whatever else defines the run; another one must not resume from it.
        step: optimizer steps done.
        elapsed_s: seconds trained, over all starts of the run.
        network, average: weights, and their exponential moving average.
        optimizer: state of the optimizer.
    """

    config_sha256: str
    step: int
    elapsed_s: float
    network: State
    average: State
    optimizer: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write to `path`, at once or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        content = asdict_shallow(self)
        write_whole(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: Path, config_sha256: str) -> Checkpoint:
        """Read `path` back.

        Raises:
            InputError: the file cannot be read.
            UsageError: it belongs to a run with another config.
        """
        try:
            found = cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged pickle raises almost anything
            raise InputError(f"The checkpoint '{path}' cannot be read: remove it to start again.") from error
        if found.config_sha256 != config_sha256:
            raise UsageError(
                f"The checkpoint '{path}' belongs to a run with another config: "
                "choose another output folder or remove it to start again."
            )
        return found


def asdict_shallow(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields by name, without copying tensors."""
    return {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}


def config_sha256(*parts: object) -> str:
    """Hash of the values that define a run: dataclasses, mappings, numbers and names."""
    plain = [asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts]  # type: ignore[call-overload]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def export_weights(average: State, bundle: Path, *, training: Mapping[str, Any] | None = None) -> None:
    """Put trained weights, as float16, into the bundle and their hash into its metadata.

    Args:
        average: weights by name.
        bundle: folder of the bundle, with its configs.
        training: what the metadata shall say of the run (seed, steps, data); None leaves it as it is.

    Raises:
        ModelError: the bundle has no metadata, or the weights are too large to be kept in a bundle.
        OutputError: a file cannot be written.
    """
    metadata = read_json(bundle, METADATA)
    half = {
        name: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for name, value in average.items()
    }
    if sum(value.nbytes for value in half.values()) > MAX_WEIGHTS_BYTES:
        raise ModelError(f"Bundle {bundle.name}: the weights take more than {MAX_WEIGHTS_BYTES >> 20} MiB.")
    write_whole(bundle / WEIGHTS, lambda file: torch.save(half, file))
    section = metadata.setdefault("cspine", {})
    section["weights_sha256"] = file_sha256(bundle / WEIGHTS)
    if training is not None:
        section["training"] = dict(training)
    write_text(json.dumps(metadata, indent=4), bundle / METADATA)


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Start from the weights in a file, of a bundle or another run.

    Raises:
        ModelError: the file cannot be read, or holds weights of another architecture.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tuple(value.shape) for name, value in state.items()}
    except Exception as error:  # a damaged pickle raises almost anything
        raise ModelError(f"'{path}' cannot be read as a file of weights.") from error
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    other = [name for name in sorted(own.keys() | shapes.keys()) if own.get(name) != shapes.get(name)]
    if other:
        raise ModelError(
            f"'{path}' holds weights of another architecture than this {type(network).__name__}: "
            f"'{other[0]}' is {shapes.get(other[0], 'missing')} instead of {own.get(other[0], 'missing')}."
        )
    network.load_state_dict(state)
