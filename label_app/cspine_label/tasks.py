"""The desk in MONAI Label's interfaces: what `/info` describes, and what MONAI Label's own calls reach."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from cspine.settings import CLASSIFICATION, SEGMENTATION
from cspine_label.cases import FINAL, TAGS
from cspine_label.desk import Desk
from cspine_label.errors import NotAllowedError
from cspine_label.job import TrainingPlan
from cspine_label.levels import LABELS
from cspine_label.outbox import Upload
from cspine_label.strategies import RANKED, STRATEGIES
from cspine_label.training import TRAINABLE

TRAININGS = {
    SEGMENTATION: "Trains a candidate on the final labels; it is promoted by an explicit act",
    CLASSIFICATION: "Trains a candidate on what was said of fractures; it is promoted by an explicit act",
}
SCORES = {
    "dice": "Dice of each vertebra between the network's label and the final one",
    "sanity": "Order, gaps and volumes of the final labels",
    **{name: STRATEGIES[name] for name in RANKED},
}


class DeskInfer(InferTask):
    """One model that annotators run."""

    def __init__(self, desk: Desk, model: str, kind: str, description: str) -> None:
        super().__init__(kind, LABELS, 3, description, {})
        self._desk, self._model = desk, model

    def is_valid(self) -> bool:
        """The bundles are checked when they are loaded."""
        return True

    def __call__(self, request: Any, callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """File and JSON of a result."""
        from cspine_label.answers import Wish, answer

        found = answer(self._desk, self._model, str(request["image"]), Wish(), "monailabel")
        return str(found.file), found.params


class DeskTrain(TrainTask):
    """One model that is trained here."""

    def __init__(self, desk: Desk, model: str) -> None:
        super().__init__(TRAININGS[model])
        self._desk, self._model = desk, model

    def config(self) -> dict[str, Any]:
        """What may be chosen."""
        plan = TrainingPlan()
        return {**vars(plan), "device": [plan.device, "cpu", "cuda"]}

    def stats(self) -> dict[str, Any]:
        """How far the last one is, in the words of 3D Slicer's panel."""
        runs = [run for run in self._desk.training.status() if run["model"] == self._model]
        if not runs:
            return {}
        last = runs[-1]
        candidates = [c for c in self._desk.shelf.candidates() if c.model == self._model]
        steps = int(last["params"]["steps"])
        best = candidates[-1].evaluation["candidate"]["mean"] if candidates else 0.0
        return {"epoch": round(last["progress"] * steps), "total_epochs": steps, "best_metric": best, **last}

    def __call__(self, request: Any, datastore: Any) -> dict[str, Any]:
        """Start one."""
        return {"candidate": self._desk.training.start(self._model, request).name}


class DeskStrategy(Strategy):
    """One strategy."""

    def __init__(self, desk: Desk, name: str) -> None:
        super().__init__(STRATEGIES[name])
        self._desk, self._name = desk, name

    def __call__(self, request: Any, datastore: Any) -> str | None:
        """The id of a case."""
        said = self._desk.next_case(self._name, str(request.get("client_id") or "monailabel"))
        return said.get("id")


class DeskScore(ScoringMethod):
    """One score."""

    def __init__(self, desk: Desk, name: str) -> None:
        super().__init__(SCORES[name])
        self._desk, self._name = desk, name

    def __call__(self, request: Any, datastore: Any) -> dict[str, Any]:
        """All cases."""
        return self._desk.rate(self._name)


def infers(desk: Desk) -> dict[str, DeskInfer]:
    """By name."""
    return {
        SEGMENTATION: DeskInfer(desk, SEGMENTATION, "segmentation", "Vertebrae C1 to C7"),
        CLASSIFICATION: DeskInfer(desk, CLASSIFICATION, "classification", "Fractures of C1 to C7"),
    }


def trainers(desk: Desk) -> dict[str, DeskTrain]:
    """By name."""
    return {name: DeskTrain(desk, name) for name in TRAINABLE}


def strategies(desk: Desk) -> dict[str, DeskStrategy]:
    """By name."""
    return {name: DeskStrategy(desk, name) for name in STRATEGIES}


def scores(desk: Desk) -> dict[str, DeskScore]:
    """By name."""
    return {name: DeskScore(desk, name) for name in SCORES}


class DeskDatastore(Datastore):
    """The datastore as MONAI Label sees it; nothing is removed through it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def name(self) -> str:
        """Of the folder or the PACS."""
        return self._desk.images.name

    def set_name(self, name: str) -> None:
        """Names are not changed."""
        raise NotAllowedError("The datastore keeps its name.")

    def description(self) -> str:
        """What it holds."""
        return "CT of the neck"

    def set_description(self, description: str) -> None:
        """Nor are descriptions."""
        raise NotAllowedError("The datastore keeps its description.")

    def datalist(self) -> list[dict[str, Any]]:
        """Images and final labels as files."""
        return [
            {"image": self.get_image_uri(case), "label": self.get_label_uri(case, FINAL)}
            for case in self._desk.labelled()
        ]

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tags of the labels that there are."""
        return {tag: image_id for tag in TAGS if self._desk.labels.record(image_id, tag)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """A label is called like its image."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_image(self, image_id: str, params: Any = None) -> bytes:
        """A NIfTI file."""
        return self._desk.image_file(image_id).read_bytes()

    def get_image_uri(self, image_id: str) -> str:
        """Path of a NIfTI file."""
        return str(self._desk.image_file(image_id))

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> bytes:
        """A NIfTI file."""
        return self._desk.label_file(label_id, label_tag).read_bytes()

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a NIfTI file."""
        return str(self._desk.label_file(label_id, label_tag))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """As in `Desk.case_info`."""
        return self._desk.case_info(image_id)

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """The record of a label."""
        record = self._desk.labels.record(label_id, label_tag)
        return dict(vars(record)) if record else {}

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Cases with a final label."""
        return list(self._desk.labelled())

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """The other cases."""
        return list(self._desk.unlabelled())

    def list_images(self) -> list[str]:
        """All cases."""
        return list(self._desk.images.cases())

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Archives are not made."""
        raise NotAllowedError("The datastore is not handed out as an archive.")

    def refresh(self) -> None:
        """A folder is read anew each time."""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add a NIfTI file to a folder."""
        from pathlib import Path

        return self._desk.images.add(image_id, Path(image_filename))

    def remove_image(self, image_id: str) -> None:
        """Images are never removed."""
        raise NotAllowedError("Images are not removed here.")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Save a label."""
        from pathlib import Path

        who = str(label_info.get("client_id") or "monailabel")
        self._desk.save(Upload(image_id, label_tag, Path(label_filename), who, label_info))
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label of a folder; what is in a PACS stays there."""
        self._desk.labels.remove(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """What was asked is kept in the history."""

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """What is known of a label comes with it."""

    def status(self) -> dict[str, Any]:
        """Counts."""
        return self._desk.status()

    def json(self) -> dict[str, Any]:
        """All cases and labels, by id."""
        cases = self._desk.images.cases()
        objects = {
            case: {"image": {"info": self._desk.case_info(case)}, "labels": self._labels(case)}
            for case in cases
        }
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _labels(self, case: str) -> dict[str, Any]:
        return {
            tag: {"ext": ".nii.gz", "info": self.get_label_info(case, tag)}
            for tag in self.get_labels_by_image_id(case)
        }
