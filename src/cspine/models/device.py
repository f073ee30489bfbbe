"""The arithmetic that pays on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch


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
