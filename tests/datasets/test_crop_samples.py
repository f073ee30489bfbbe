from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cspine.anatomy import Vertebra
from cspine.datasets.crop_samples import CropFile, save_crops
from cspine.errors import InputError


def test_crops_are_read_back_from_disk_as_they_were(tmp_path, crop):
    kept = [crop(Vertebra.C2, fractured=True), crop(Vertebra.C6, fractured=False)]
    kept.append(replace(crop(Vertebra.C7, fractured=True), located=False))
    save_crops(kept, tmp_path / "neck-00000007.npz")
    file = CropFile(tmp_path / "neck-00000007.npz")
    assert file.fractured == {Vertebra.C2: True, Vertebra.C6: False, Vertebra.C7: True}
    assert file.located == {Vertebra.C2: True, Vertebra.C6: True, Vertebra.C7: False}
    for wanted in kept:
        found = file.load(wanted.level)
        assert (found.fractured, found.located) == (wanted.fractured, wanted.located)
        for name in ("image", "mask", "fracture"):
            assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_a_damaged_file_of_crops_is_refused_by_name(tmp_path):
    (tmp_path / "neck-00000001.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match=r"neck-00000001\.npz"):
        _ = CropFile(tmp_path / "neck-00000001.npz").fractured
