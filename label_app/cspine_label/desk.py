"""What one label server does, in the words of the annotators: list, ask, infer, save, train, promote."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cspine.anatomy import CERVICAL
from cspine.errors import UsageError
from cspine.settings import CLASSIFICATION, SEGMENTATION
from cspine.volume import SpineMask, Visibility
from cspine_label.cases import FINAL, ORIGINAL, CaseImage, Images
from cspine_label.errors import PacsError, UnknownNameError
from cspine_label.folder_images import FolderImages
from cspine_label.fractures import Annotations, as_json
from cspine_label.history import History
from cspine_label.images import write_image
from cspine_label.inference import Inference
from cspine_label.labels import LabelFolder, LabelRecord
from cspine_label.leases import Leases
from cspine_label.levels import LABELS
from cspine_label.outbox import Upload
from cspine_label.pacs import Pacs
from cspine_label.pacs_images import PacsImages
from cspine_label.ranking import Ranking
from cspine_label.saving import Saving
from cspine_label.scores import dice_by_level, mean_dice, sanity
from cspine_label.setup import Setup
from cspine_label.shelf import Shelf
from cspine_label.strategies import RANKED, check_strategy, choose
from cspine_label.training import Training
from cspine_label.uncertainty import Doubt

log = logging.getLogger(__name__)

MODELS: Final = (SEGMENTATION, CLASSIFICATION)
"""What annotators may run: the localization network is a part of the first."""


class Desk:
    """One label server without its HTTP."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        space = setup.workspace
        self.images: Images
        if setup.is_pacs:
            self.images = PacsImages(Pacs(setup.studies, setup.login), space / "images")
            labels = space / "labels"
        else:
            self.images = FolderImages(Path(setup.studies))
            labels = self.images.root / "labels"
        try:
            space.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The folder '{space}' cannot be made; name another one with --workspace."
            ) from error
        self.labels = LabelFolder(labels)
        self.leases, self.history = (
            Leases(space / "leases.json", setup.lease_s),
            History(space / "history.jsonl"),
        )
        self.shelf = Shelf(setup.bundles, space)
        self.inference = Inference(self.shelf, setup.device)
        self.ranking = Ranking(space / "doubts.json", self._doubt, lambda: self.inference.weights)
        self.saving = Saving(self.images, self.labels, space)
        self.training = Training(self, space)

    def open(self) -> None:
        """Begin what goes on in the background."""
        for name in self.shelf.drop_unfinished():
            log.warning("the candidate %s, whose training never ended, was dropped", name)
        if self.saving.outbox:
            self.saving.outbox.keep_sending()

    def close(self) -> None:
        """End it."""
        if self.saving.outbox:
            self.saving.outbox.close()
        self.training.stop()
        self.ranking.close()
        self.inference.close()

    # Cases

    def labelled(self) -> tuple[str, ...]:
        """Cases with a final label, here or in the PACS."""
        cases = self.images.cases()
        drawn = self.images.drawn() if isinstance(self.images, PacsImages) else {}
        return tuple(case for case in cases if case in drawn or self.labels.record(case, FINAL))

    def unlabelled(self) -> tuple[str, ...]:
        """The other cases."""
        done = set(self.labelled())
        return tuple(case for case in self.images.cases() if case not in done)

    def final_mask(self, image: CaseImage) -> SpineMask:
        """The final label of a case, on its image's grid; one that is only in the PACS is read from there.

        Raises:
            UnknownNameError: it has none.
            RefusedLabelError: the Segmentation in the PACS cannot be used, and why.
        """
        if not self.labels.record(image.case_id, FINAL):
            self._fetch_drawn(image)
        return self.labels.mask(image.case_id, FINAL, image.volume.grid)

    def _fetch_drawn(self, image: CaseImage) -> None:
        drawn = self.images.drawn().get(image.case_id) if isinstance(self.images, PacsImages) else None
        if drawn is None or image.series is None:
            return
        assert isinstance(self.images, PacsImages)
        from cspine_label.segmentations import read_segmentation

        found = self.images.pacs.series(drawn.study_uid, drawn.series_uid)
        mask = read_segmentation(found[0], image.series)
        levels = tuple(str(f.level) for f in mask.levels if f.visibility is not Visibility.ABSENT)
        extra = {"SeriesInstanceUID": drawn.series_uid}
        self.labels.save(mask, LabelRecord(image.case_id, FINAL, 0.0, "PACS", levels, extra=extra))

    def image_file(self, case_id: str) -> Path:
        """The image of a case as a NIfTI file."""
        if isinstance(self.images, FolderImages) and self.images.path(case_id).is_file():
            return self.images.path(case_id)
        path = self.setup.workspace / "nifti" / f"{hashlib.sha256(case_id.encode()).hexdigest()[:24]}.nii.gz"
        image = self.images.read(case_id)
        if not path.exists():
            write_image(image.volume.hu, image.volume.grid, path)
        return path

    def label_file(self, case_id: str, tag: str) -> Path:
        """A label of a case as a NIfTI file."""
        if tag == FINAL and not self.labels.record(case_id, tag):
            self._fetch_drawn(self.images.read(case_id))
        path = self.labels.path(case_id, tag)
        if not path.exists():
            raise UnknownNameError(f"The case '{case_id}' has no {tag} label.")
        return path

    # Annotating

    def next_case(self, strategy: str, who: str) -> dict[str, Any]:
        """Lease a case to `who`; {} with a message where there is none."""
        check_strategy(strategy)
        waiting = self.unlabelled()
        free = self.leases.free_for(who, waiting)
        had = [case for case in free if self.leases.holder(case) == who]
        # Whoever asks again without having saved wants another case.
        others = tuple(case for case in free if case not in had) or free
        scores: Mapping[str, float] = {}
        if strategy in RANKED:
            scores = self.ranking.scores(strategy)
            self.ranking.start(waiting)
        while others:
            choice = choose(strategy, others, scores)
            assert choice is not None
            if self.leases.take(choice.case_id, who):
                self.history.note(
                    "asked", case=choice.case_id, who=who, strategy=strategy, score=choice.score
                )
                said = {"strategy": strategy, "score": choice.score, "note": choice.note}
                return {"id": choice.case_id, **self.case_info(choice.case_id), **said}
            others = tuple(case for case in others if case != choice.case_id)
        message = "Other annotators have all remaining cases." if waiting else "Every case has a final label."
        return {"message": message}

    def case_info(self, case_id: str) -> dict[str, Any]:
        """What clients are told of a case; a NIfTI file also by its path, for clients on the same machine."""
        info = dict(self.images.info(case_id))
        if isinstance(self.images, FolderImages) and info["kind"] == "nifti":
            info["path"] = str(self.images.path(case_id))
        return info

    def segment(self, case_id: str, who: str) -> tuple[CaseImage, SpineMask]:
        """Name the vertebrae of a case with the network in use."""
        image = self.images.read(case_id)
        self.leases.renew(case_id, who)
        return image, self.inference.segment(image)

    def save(self, upload: Upload) -> dict[str, Any]:
        """Take a label; the case is free again and is not asked for any more."""
        said = self.saving.save(upload)
        if upload.tag == FINAL:
            self.leases.release(upload.case_id)
        self.history.note("saved", case=upload.case_id, who=upload.who, tag=upload.tag, **said)
        return said

    def annotate(self, case_id: str, annotations: Annotations, who: str) -> dict[str, Any]:
        """Take what a person says of fractures, beside the final label.

        Raises:
            ConflictError: the case has no final label yet.
            RefusedLabelError: it does not fit that label.
        """
        if case_id in self.labelled() and not self.labels.record(case_id, FINAL):
            self._fetch_drawn(self.images.read(case_id))
        self.images.info(case_id)
        said = self.saving.annotate(case_id, annotations, who)
        self.history.note("judged", case=case_id, who=who, levels=[str(level) for level in annotations])
        return said

    def fractures(self, case_id: str) -> dict[str, Any]:
        """What was said of the fractures of a case."""
        if case_id not in self.images.cases():
            raise UnknownNameError(f"There is no case '{case_id}' in the datastore.")
        record = self.labels.record(case_id, FINAL)
        return as_json(record.annotations) if record else {}

    # Scores

    def rate(self, method: str) -> dict[str, Any]:
        """Score all cases: "dice" and "sanity" now, the doubts of the network in the background."""
        if method in RANKED:
            self.ranking.start(self.unlabelled())
            return {"running": self.ranking.is_running, "scores": self.ranking.scores(method)}
        if method not in ("dice", "sanity"):
            raise UnknownNameError(f"There is no score '{method}'; choose dice, sanity, {', '.join(RANKED)}.")
        return {"running": False, "scores": {case: self._rate(method, case) for case in self.labelled()}}

    def _rate(self, method: str, case_id: str) -> dict[str, Any]:
        image = self.images.read(case_id)
        final = self.final_mask(image)
        if method == "sanity":
            found = sanity(final)
            return {"score": found.score, "remarks": list(found.remarks)}
        if not self.labels.record(case_id, ORIGINAL):
            return {"score": None, "levels": {}}
        by_level = dice_by_level(self.labels.mask(case_id, ORIGINAL, image.volume.grid), final)
        return {"score": mean_dice(by_level), "levels": {str(v): value for v, value in by_level.items()}}

    def _doubt(self, case_id: str) -> Doubt:
        return self.inference.doubt(self.images.read(case_id))

    def status(self) -> dict[str, Any]:
        """Counts for /info, which answers even where the PACS does not."""
        try:
            cases, done = self.images.cases(), self.labelled()
        except PacsError as error:
            return {"total": 0, "completed": 0, "message": str(error)}
        waiting = self.saving.outbox.waiting() if self.saving.outbox else []
        return {
            "total": len(cases),
            "completed": len(done),
            "outbox": len(waiting),
            "leases": len(self.leases.all()),
        }


def described(mask: SpineMask) -> list[dict[str, Any]]:
    """The levels of a mask for a client: name, number, visibility."""
    return [
        {
            "name": str(v),
            "idx": LABELS[str(v)],
            "visibility": str(mask.level(v).visibility),
            "margin": mask.level(v).margin,
        }
        for v in CERVICAL
    ]
