"""Where networks and resampling run: chosen in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspine.errors import ModelError

if TYPE_CHECKING:
    import torch


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name: the CPU, or a CUDA device with its number. Never a silent fallback.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda", or a torch device of these kinds.

    Raises:
        ModelError: an unknown device, or CUDA where there is none.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"There is no device '{device}'; choose auto, cpu or cuda.") from error
    if wanted.type == "cpu":
        return torch.device("cpu")
    if wanted.type != "cuda":
        raise ModelError(f"The networks cannot run on the device '{device}'; choose auto, cpu or cuda.")
    index = wanted.index or 0
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise ModelError(
            f"The device '{device}' was asked for but CUDA does not offer it; choose cpu or auto."
        )
    return torch.device("cuda", index)
