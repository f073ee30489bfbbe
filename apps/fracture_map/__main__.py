"""``python -m fracture_map``: without arguments as a MONAI Application Package runs it, else the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from fracture_map.cli import main


def arguments_of(given: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command's arguments: those given, or without any, the paths of the MAP convention.

    HOLOSCAN_INPUT_PATH and HOLOSCAN_OUTPUT_PATH name INPUT and OUTPUT; HOLOSCAN_MODEL_PATH, the folder of the
    bundles, is read where the default is (`cspine.settings.models_dir`).
    """
    paths = [environment.get(f"HOLOSCAN_{name}_PATH", "") for name in ("INPUT", "OUTPUT")]
    return ["run", *paths] if not given and all(paths) else list(given)


if __name__ == "__main__":
    sys.exit(main(arguments_of(sys.argv[1:], os.environ)))
