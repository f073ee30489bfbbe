"""The device that networks run on, and the arithmetic that pays there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspine.errors import ModelError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch


def pick_device(name: str) -> torch.device:
    """Return the device of that name: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        ModelError: an unknown name, or "cuda" without a usable CUDA device (never a silent fallback).
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise ModelError(f"There is no device '{name}': choose auto, cpu or cuda.")
    if not torch.cuda.is_available():
        raise ModelError("No CUDA device can be used here: choose --device cpu or auto.")
    return torch.device("cuda")


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware there: CUDA, or a CPU with AMX or AVX512-BF16."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # There is no public query for the CPU (torch 2.13).
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision in bfloat16 where it pays, else float32 throughout."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device))
