"""What the tests of training data share."""

from __future__ import annotations

from dataclasses import fields

import pytest

from cspine.datasets.crop_augmentation import Augmentation
from cspine.datasets.crop_mask_errors import MaskErrors


@pytest.fixture
def still() -> Augmentation:
    """An augmentation without strength: every number of it is 0, and the mask is the true one."""
    true_mask = MaskErrors(smooth=(1, 1), wobble=0, level=0, half=0, islands=0, shift=0, none=0)
    zeros = {field.name: 0.0 for field in fields(Augmentation) if isinstance(field.default, float)}
    return Augmentation(**zeros, mask=true_mask)
