"""A MONAI bundle on disk: its metadata, its network and its weights, checked before use.

A bundle is data. Layout (MONAI bundle specification): ``configs/metadata.json``, ``configs/inference.json``
with a ``network_def``, ``models/model.pt``. The metadata's ``cspine`` section says what MONAI has no place
for::

    "cspine": {
        "weights_sha256": "...",                 of models/model.pt
        "grid": {"pixdim_mm": [3, 3, 3], "patch": null, "window_hu": [-450, 1050]},          a `GridSpec`, or
        "crop": {"steps": 15, "window_planes": 5, "pixels": 128, ...}                        a `CropSpec`
    }
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cspine.crops import CropSpec, GridSpec
from cspine.cuda_runtime import preload
from cspine.errors import ModelError
from cspine.findings import ModelVersion

if TYPE_CHECKING:
    import torch

METADATA: Final = Path("configs/metadata.json")
INFERENCE: Final = Path("configs/inference.json")
WEIGHTS: Final = Path("models/model.pt")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose weights are the ones its metadata names.

    Attributes:
        path: its folder.
        name: its name, that of the folder.
        version: of the metadata.
        sha256: of models/model.pt, verified.
        metadata: configs/metadata.json.
    """

    path: Path
    name: str
    version: str
    sha256: str
    metadata: Mapping[str, Any]

    def network(self, device: torch.device) -> torch.nn.Module:
        """Build the network, with its weights, in evaluation mode on `device`.

        Raises:
            ModelError: the config defines no network, or the weights belong to another architecture.
        """
        import torch

        network = build_network(self.path)
        try:
            state = torch.load(self.path / WEIGHTS, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError, pickle.UnpicklingError, EOFError) as error:
            raise ModelError(
                f"Bundle {self.name}: {WEIGHTS} does not hold the weights of the network in {INFERENCE}; "
                "install the bundle again."
            ) from error
        return network.to(device).eval()

    def grid_spec(self) -> GridSpec:
        """The grid that the localization or segmentation network was trained on.

        Raises:
            ModelError: the metadata has none, or a malformed one.
        """
        return grid_spec_of(self.name, self.metadata)

    def crop_spec(self) -> CropSpec:
        """The crop that the fracture classifier was trained on.

        Raises:
            ModelError: the metadata has none, or a malformed one.
        """
        section = self._section("crop")
        try:
            low, high = (float(bound) for bound in section["window_hu"])
            return CropSpec(
                steps=int(section["steps"]),
                window_planes=int(section["window_planes"]),
                pixels=int(section["pixels"]),
                field_mm=float(section["field_mm"]),
                margin_mm=float(section["margin_mm"]),
                window_hu=(low, high),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._malformed("crop") from error

    def model_version(self) -> ModelVersion:
        """How results name this bundle."""
        return ModelVersion(self.name, self.version, self.sha256)

    def _section(self, key: str) -> Mapping[str, Any]:
        section = self.metadata["cspine"].get(key)
        if not isinstance(section, dict):
            raise self._malformed(key)
        return section

    def _malformed(self, key: str) -> ModelError:
        return ModelError(f"Bundle {self.name}: {METADATA} has no valid cspine.{key} section.")


def grid_spec_of(name: str, metadata: Mapping[str, Any]) -> GridSpec:
    """Read ``cspine.grid`` of the metadata of the bundle `name`.

    Raises:
        ModelError: there is none, or a malformed one.
    """
    try:
        section = metadata["cspine"]["grid"]
        z, y, x = (float(step) for step in section["pixdim_mm"])
        low, high = (float(bound) for bound in section["window_hu"])
        patch = section["patch"]
        if patch is not None:
            slices, rows, columns = (int(side) for side in patch)
            patch = (slices, rows, columns)
        return GridSpec((z, y, x), patch, (low, high))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"Bundle {name}: {METADATA} has no valid cspine.grid section.") from error


def load_bundle(root: Path, name: str) -> Bundle:
    """Open the bundle `name` in the folder `root` and verify the hash of its weights.

    Raises:
        ModelError: a missing folder or file, malformed metadata, or weights that are not those it names.
    """
    path = root / name
    if not path.is_dir():
        raise ModelError(f"Bundle {name}: there is no such folder in '{root}'; name the models folder.")
    metadata = read_json(path, METADATA)
    try:
        version, expected = str(metadata["version"]), str(metadata["cspine"]["weights_sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"Bundle {name}: {METADATA} does not name a version and cspine.weights_sha256."
        ) from error
    try:
        sha256 = file_sha256(path / WEIGHTS)
    except OSError as error:
        raise ModelError(f"Bundle {name}: {WEIGHTS} is missing or cannot be read.") from error
    if sha256 != expected:
        raise ModelError(
            f"Bundle {name}: {WEIGHTS} is not the file that {METADATA} names (its SHA-256 differs); "
            "install the bundle again."
        )
    return Bundle(path, name, version, sha256, metadata)


def build_network(path: Path) -> torch.nn.Module:
    """Build the untrained network that ``network_def`` in the bundle's configs/inference.json defines.

    Raises:
        ModelError: the file is missing or malformed, or defines no network.
    """
    config = read_json(path, INFERENCE)
    preload()
    import torch
    from monai.bundle import ConfigParser

    try:
        network = ConfigParser(config).get_parsed_content("network_def", instantiate=True)
    except Exception as error:  # MONAI wraps whatever the named class raises
        raise ModelError(f"Bundle {path.name}: network_def in {INFERENCE} cannot be built.") from error
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"Bundle {path.name}: network_def in {INFERENCE} is not a network.")
    return network


def read_json(path: Path, file: Path) -> dict[str, Any]:
    """Read a JSON object of the bundle at `path`.

    Raises:
        ModelError: the file is missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads((path / file).read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"Bundle {path.name}: {file} is missing or cannot be read.") from error
    except ValueError as error:
        raise ModelError(f"Bundle {path.name}: {file} is not valid JSON.") from error
    if not isinstance(content, dict):
        raise ModelError(f"Bundle {path.name}: {file} does not hold a JSON object.")
    return content


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
