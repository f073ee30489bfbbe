"""The networks, on one thread of their own: the same code as the hospital's application."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cspine.crops import VertebraCrop
from cspine.findings import StudyFindings
from cspine.pipeline import assess
from cspine.volume import SpineMask
from cspine_label.cases import CaseImage
from cspine_label.shelf import Shelf

if TYPE_CHECKING:
    from cspine.method import Method
    from cspine_label.uncertainty import Doubt

T = TypeVar("T")


class Inference:
    """One inference at a time; whoever asks waits in line, and nobody else does."""

    def __init__(self, shelf: Shelf, device: str = "auto") -> None:
        self._shelf, self._device = shelf, device
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._loaded: tuple[str, Method] | None = None

    def segment(self, image: CaseImage) -> SpineMask:
        """Name the vertebrae of a case.

        Raises:
            ModelError: a bundle is missing or damaged.
            InputError: the image's geometry is not usable.
        """
        return self._run(lambda: self._method().segment(image.volume))

    def find_fractures(
        self, image: CaseImage, mask: SpineMask | None = None
    ) -> tuple[StudyFindings, SpineMask]:
        """Score the levels of a mask, or else of the mask that the networks make."""
        return self._run(lambda: self._find(image, mask))

    def crops(self, image: CaseImage, mask: SpineMask) -> tuple[VertebraCrop, ...]:
        """The vertebrae as the classifier sees them."""
        return self._run(lambda: tuple(self._method().crops(image.volume, mask)))

    def doubt(self, image: CaseImage) -> Doubt:
        """How unsure the segmentation is of a case."""
        return self._run(lambda: self._doubt(image))

    @property
    def weights(self) -> str:
        """SHA-256 of the segmentation weights in use: what its scores are of."""
        from cspine.models.bundle import load_bundle
        from cspine.settings import SEGMENTATION

        return load_bundle(self._shelf.root(self._shelf.active), SEGMENTATION).sha256

    def close(self) -> None:
        """Let the thread end."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[], T]) -> T:
        return self._worker.submit(work).result()

    def _method(self) -> Method:
        """The networks in use; loaded when first needed, and anew after a promotion."""
        from cspine.method import Method

        name = self._shelf.active
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = name, Method.load(self._shelf.root(name), self._device)
        return self._loaded[1]

    def _find(self, image: CaseImage, mask: SpineMask | None) -> tuple[StudyFindings, SpineMask]:
        method = self._method()
        mask = mask or method.segment(image.volume)
        crops = method.crops(image.volume, mask)
        if image.series is not None:
            return method.judge(image.series, mask, crops), mask
        scores = method.classifier(crops) if crops else None
        found = assess(image.volume, mask, scores, method.operating_point)
        return replace(found, models=method.models), mask

    def _doubt(self, image: CaseImage) -> Doubt:
        from cspine_label.uncertainty import doubt_of

        method = self._method()
        return doubt_of(method, self._shelf.root(self._shelf.active), image.volume)
