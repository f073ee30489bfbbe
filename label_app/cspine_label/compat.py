"""What MONAI Label 0.8.5 needs on pydicom 3. It is installed without torchvision, which nothing here uses.

Call `install_shims` before anything of ``monailabel`` is imported, in child processes as well.
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache

from cspine.cuda_runtime import preload


@cache
def install_shims() -> None:
    """Make ``import monailabel.interfaces.app`` work, and keep it from starting what this app replaces."""
    # Each sample would start all scorers in processes of their own, and /reload then deadlocks.
    os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"
    os.environ["MONAI_LABEL_SESSIONS"] = "false"
    os.environ["MONAI_LABEL_TRACKING_ENABLED"] = "false"
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    preload()
    _pydicom()


def _pydicom() -> None:
    """Give pydicom-seg the UIDs of the storage classes where pydicom 2 had them."""
    import pydicom.uid

    sys.modules.setdefault("pydicom._storage_sopclass_uids", pydicom.uid)
