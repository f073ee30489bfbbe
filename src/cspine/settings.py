"""Every default, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PRODUCT: Final = "Fracture Map"
MANUFACTURER: Final = "Fracture Map"
DISCLAIMER: Final = (
    "AI output for research use only, not a medical device and not for diagnosis. "
    "The networks were trained on synthetic necks. A finding that is not marked does not exclude a fracture."
)

LOCALIZATION: Final = "cspine_ct_localization"
SEGMENTATION: Final = "cspine_ct_segmentation"
CLASSIFICATION: Final = "cspine_ct_fracture_classification"
BUNDLES: Final = (LOCALIZATION, SEGMENTATION, CLASSIFICATION)

DEVICES: Final = ("auto", "cpu", "cuda")
TIMEOUT_S: Final = 300.0
"""Time limit of a study; the Workflow Manager of MONAI Deploy gives five minutes as well."""
THREADS: Final = min(os.cpu_count() or 1, 8)
"""Threads for decoding and DALI; more do not pay on one study."""

LIMITED_THICKNESS_MM: Final = 1.5
"""Thicker slices are analysed and marked as limited (RSNA 2022 asked for 1 mm or less)."""
MAX_THICKNESS_MM: Final = 5.0
"""Thicker slices cannot show a level completely and are not analysed."""


def models_dir() -> Path:
    """The folder of the bundles: HOLOSCAN_MODEL_PATH, else the ones that came with the installation."""
    if given := os.environ.get("HOLOSCAN_MODEL_PATH"):
        return Path(given)
    packaged = Path(__file__).parent / "bundles"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "bundles"
