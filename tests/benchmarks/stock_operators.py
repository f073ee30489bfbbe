"""Operators of the stock graph where the SDK has none ready-made, from MONAI's transforms and inferers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cspine.anatomy import CERVICAL, Vertebra
from cspine.cuda_runtime import preload
from cspine.models.bundle import INFERENCE, WEIGHTS, Bundle, build_network, load_bundle, read_json
from cspine.models.classifier import second_look
from cspine.models.folding import at_voxels
from cspine.models.inference import fold_of
from cspine.preprocess.geometry import crop_grid, level_box
from cspine.settings import CLASSIFICATION, LOCALIZATION, SEGMENTATION
from cspine.volume import Grid, SpineMask, Visibility

preload()

import torch  # noqa: E402
from monai.bundle import ConfigParser  # noqa: E402
from monai.data import MetaTensor  # noqa: E402
from monai.deploy.core import Image, Operator, OperatorSpec  # noqa: E402
from monai.deploy.operators import MonaiSegInferenceOperator  # noqa: E402
from monai.deploy.operators.monai_seg_inference_operator import InfererType, InMemImageReader  # noqa: E402
from monai.inferers import sliding_window_inference  # noqa: E402
from monai.transforms import (  # noqa: E402
    AsDiscreted,
    Compose,
    Invertd,
    LoadImaged,
    ScaleIntensityRange,
    SpatialCrop,
    SpatialCropd,
    SpatialResample,
)

OVERLAP = 0.25
"""The SDK operator's default; the segmentation bundle itself asks for more."""
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Networks:
    """The three networks of the bundles, loaded once, with the transforms that the bundles name."""

    def __init__(self, root: Path, *, bfloat16: bool) -> None:
        self.bundles = {
            name: load_bundle(root, name) for name in (LOCALIZATION, SEGMENTATION, CLASSIFICATION)
        }
        self.bfloat16 = bfloat16
        self.by_name = {name: self._network(bundle) for name, bundle in self.bundles.items()}

    def _network(self, bundle: Bundle) -> Any:
        network = build_network(bundle.path)
        network.load_state_dict(torch.load(bundle.path / WEIGHTS, weights_only=True))
        network.eval()

        def classes(*inputs: Any) -> Any:
            """Of each voxel, without the rise, which stock operators know nothing to do with."""
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                found = network(*inputs)
            return at_voxels(found, fold_of(network)) if bundle.name == SEGMENTATION else found

        return classes

    def preprocessing(self, name: str, image: Image) -> Compose:
        """The bundle's own transforms, reading the SDK's image from memory instead of a file."""
        parser = ConfigParser(read_json(self.bundles[name].path, INFERENCE))
        count = len(parser["preprocessing#transforms"])
        steps = [parser.get_parsed_content(f"preprocessing#transforms#{i}") for i in range(1, count)]
        return Compose([LoadImaged(keys="image", reader=InMemImageReader(image)), *steps])

    def as_the_sdk_wants_them(self) -> SimpleNamespace:
        """What the SDK's inference operator asks an AppContext for."""
        return SimpleNamespace(models=self.by_name)


class SegmentAsShipped(Operator):
    """One bundle's inference.json in the SDK's inference operator, as the SDK's example applications do."""

    def __init__(self, fragment: Any, *args: Any, networks: Networks, bundle: str, **kwargs: Any) -> None:
        self.networks, self.bundle = networks, bundle
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("image")
        spec.output("seg_image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        image = op_input.receive("image")
        before = self.networks.preprocessing(self.bundle, image)
        invert = Invertd(
            keys="pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True
        )
        patch = self.networks.bundles[self.bundle].grid_spec().patch
        infer = MonaiSegInferenceOperator(
            self.fragment,
            roi_size=patch or (96, 96, 96),
            overlap=OVERLAP,
            sw_batch_size=1,
            mode="gaussian",
            inferer=InfererType.SLIDING_WINDOW if patch else InfererType.SIMPLE,
            pre_transforms=before,
            post_transforms=Compose([invert, AsDiscreted(keys="pred", argmax=True)]),
            app_context=self.networks.as_the_sdk_wants_them(),
            model_name=self.bundle,
            name=f"{self.name}_infer",
        )
        op_output.emit(infer.compute_impl(image, context), "seg_image")


class SegmentTuned(Operator):
    """Both networks: the localization's box bounds the one patch, and labels, not probabilities, go back."""

    def __init__(self, fragment: Any, *args: Any, networks: Networks, **kwargs: Any) -> None:
        self.networks = networks
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("image")
        spec.output("seg_image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        image = op_input.receive("image")
        with torch.inference_mode():
            center = self._center_ras(image)
            labels = self._labels(image, center)
        op_output.emit(Image(labels, image.metadata()), "seg_image")

    def _center_ras(self, image: Image) -> np.ndarray:
        found = self.networks.preprocessing(LOCALIZATION, image)({"image": "study"})["image"]
        spine = self.networks.by_name[LOCALIZATION](found[None].as_tensor())[0].argmax(0)
        where = torch.argwhere((spine >= 1) & (spine <= len(CERVICAL))).double()
        middle = where.quantile(0.5, dim=0).numpy() if len(where) else np.array(spine.shape) / 2
        return (found.affine.numpy() @ [*middle, 1.0])[:3]

    def _labels(self, image: Image, center_ras: np.ndarray) -> np.ndarray:
        before = self.networks.preprocessing(SEGMENTATION, image)
        whole = before({"image": "study"})
        index = np.linalg.inv(whole["image"].affine.numpy()) @ [*center_ras, 1.0]
        patch = self.networks.bundles[SEGMENTATION].grid_spec().patch
        crop = SpatialCropd(keys="image", roi_center=np.rint(index[:3]).astype(int).tolist(), roi_size=patch)
        cut = crop(whole)
        found = sliding_window_inference(
            cut["image"][None],
            patch,
            1,
            self.networks.by_name[SEGMENTATION],
            overlap=OVERLAP,
            mode="gaussian",
        )
        cut["pred"] = found[0].argmax(0, keepdim=True).to(torch.uint8)
        back = Invertd(
            keys="pred",
            transform=Compose([before, crop]),
            orig_keys="image",
            nearest_interp=True,
            to_tensor=True,
        )
        return np.ascontiguousarray(back(cut)["pred"][0].numpy().T.astype(np.uint8))


class Classify(Operator):
    """Crops by MONAI's transforms, on the crop grid that the classifier was trained on; the SDK has none."""

    def __init__(
        self, fragment: Any, *args: Any, networks: Networks, said: dict[str, Any], **kwargs: Any
    ) -> None:
        self.networks, self.said, self.gated = networks, said, kwargs.pop("gated")
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("image")
        spec.input("seg_image")
        if self.gated:
            spec.input("spine")
        spec.output("levels")
        spec.output("text")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        image, segmented = op_input.receive("image"), op_input.receive("seg_image")
        labels = segmented.asnumpy()
        labels = np.where(labels > len(CERVICAL), np.uint8(0), labels).astype(np.uint8)
        if self.gated and not np.isin(op_input.receive("spine").asnumpy(), CERVICAL).any():
            labels[:] = 0
        probabilities = self._probabilities(image, labels)
        self.said["levels"] = [name for name in probabilities if name != "overall"]
        self.said["probabilities"] = probabilities
        text = ", ".join(f"{name} {value:.2f}" for name, value in probabilities.items())
        op_output.emit(Image(labels, image.metadata()), "levels")
        op_output.emit(f"Probability of a fracture: {text or 'no cervical vertebra found'}", "text")

    def _probabilities(self, image: Image, labels: np.ndarray) -> dict[str, float]:
        ras = np.asarray(image.metadata()["affine"], np.float64)  # of (column, row, slice)
        mask = SpineMask.from_labels(Grid(labels.shape, (RAS_FROM_LPS @ ras)[:, [2, 1, 0, 3]]), labels)
        seen = [found.level for found in mask.levels if found.visibility is not Visibility.ABSENT]
        if not seen:
            return {}
        spec = self.networks.bundles[CLASSIFICATION].crop_spec()
        study = torch.zeros(1, len(CERVICAL), 2, spec.planes, spec.pixels, spec.pixels)
        present = torch.zeros(1, len(CERVICAL), dtype=torch.bool)
        for level in seen:
            place = CERVICAL.index(level)
            present[0, place] = True
            study[0, place] = self._crop(image, mask, level, ras)
        with torch.inference_mode():
            both = torch.cat([study, second_look(study, spec)])
            out = self.networks.by_name[CLASSIFICATION](both, torch.cat([present, present]))
        chances = out["levels"].float().sigmoid().mean(0)
        overall = float(out["overall"].float().sigmoid().mean())
        return {level.name: float(chances[CERVICAL.index(level)]) for level in seen} | {"overall": overall}

    def _crop(self, image: Image, mask: SpineMask, level: Vertebra, ras: np.ndarray) -> torch.Tensor:
        spec = self.networks.bundles[CLASSIFICATION].crop_spec()
        target = crop_grid(level_box(mask, level), spec)
        corners = np.array(np.meshgrid(*[(-1, n) for n in target.shape], indexing="ij")).reshape(3, -1).T
        near = mask.grid.to_index(target.to_lps_mm(corners))[:, ::-1]  # (column, row, slice), as MONAI has it
        cut = SpatialCrop(
            roi_start=np.floor(near.min(0)).astype(int), roi_end=np.ceil(near.max(0)).astype(int)
        )
        onto = {
            "dst_affine": torch.from_numpy(RAS_FROM_LPS @ target.affine_lps),
            "spatial_size": target.shape,
        }
        affine = torch.from_numpy(ras)
        ct = cut(MetaTensor(torch.from_numpy(image.asnumpy().T)[None], affine=affine))
        bone = cut(MetaTensor(torch.from_numpy(mask.labels.T)[None], affine=affine)) == int(level)
        put = {"padding_mode": "zeros", "dtype": torch.float32}
        scale = ScaleIntensityRange(*spec.window_hu, 0.0, 1.0, clip=True)
        planes = SpatialResample(mode="bilinear", **put)(scale(ct.float()), **onto)
        inside = SpatialResample(mode="nearest", **put)(bone.float(), **onto)
        return torch.cat([planes.as_tensor(), inside.as_tensor()])
