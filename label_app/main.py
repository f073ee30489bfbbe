"""The MONAI Label app: hooks only. What they do stands in `cspine_label`."""

from __future__ import annotations

from cspine_label.compat import install_shims

install_shims()

from typing import Any  # noqa: E402

from monailabel.interfaces.app import MONAILabelApp  # noqa: E402

from cspine_label import tasks  # noqa: E402
from cspine_label.desk import Desk  # noqa: E402
from cspine_label.levels import LABELS  # noqa: E402
from cspine_label.setup import Setup  # noqa: E402


class CspineLabelApp(MONAILabelApp):
    """Serves the bundles to annotators; MONAI Label finds this class by its base."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, Any]) -> None:
        self.desk = Desk(Setup.of(studies, conf))
        super().__init__(app_dir, studies, conf, "Fracture Map", "Vertebrae C1 to C7", labels=LABELS)

    def init_datastore(self) -> tasks.DeskDatastore:
        """A folder or a PACS."""
        return tasks.DeskDatastore(self.desk)

    def init_infers(self) -> dict[str, tasks.DeskInfer]:
        """Vertebrae, and fractures."""
        return tasks.infers(self.desk)

    def init_trainers(self) -> dict[str, tasks.DeskTrain]:
        """The segmentation."""
        return tasks.trainers(self.desk)

    def init_strategies(self) -> dict[str, tasks.DeskStrategy]:
        """Of active learning."""
        return tasks.strategies(self.desk)

    def init_scoring_methods(self) -> dict[str, tasks.DeskScore]:
        """Of labels and of cases."""
        return tasks.scores(self.desk)
