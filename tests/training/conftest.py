"""What the tests of training share."""

from __future__ import annotations

import pytest

from cspine.models.classifier_network import Widths


@pytest.fixture
def widths() -> Widths:
    """Widths of a small classifier."""
    return Widths(channels=(4, 6, 8, 8), blocks=(1, 1, 1), merged=8, recurrent=8, study=8)
