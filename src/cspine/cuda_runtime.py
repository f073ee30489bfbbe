"""The CUDA runtime library that Holoscan links to, found where pip put it.

With the MONAI Deploy App SDK installed, ``import monai`` imports Holoscan, which needs ``libcudart`` even on
a machine without a GPU. Whoever imports MONAI or Holoscan calls `preload` first.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from cspine.errors import ModelError


@cache
def preload() -> None:
    """Load libcudart into the process, once; does nothing where Holoscan is not installed.

    Raises:
        ModelError: Holoscan is installed without a CUDA runtime library.
    """
    if find_spec("holoscan") is None:
        return
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("cudart")
    except DynamicLibNotFoundError as error:
        raise ModelError(
            "The CUDA runtime library that Holoscan needs was not found: install the Python package "
            "nvidia-cuda-runtime."
        ) from error
