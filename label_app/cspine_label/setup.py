"""How a label server is set up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspine.settings import models_dir
from cspine_label.leases import LEASE_S
from cspine_label.pacs import Login


@dataclass(frozen=True)
class Setup:
    """How a server is set up.

    Attributes:
        studies: a folder, or the address of a PACS (http://.../dicom-web).
        workspace: folder for what the server itself keeps.
        bundles: folder of the released bundles.
        device: "auto", "cpu" or "cuda".
        login: of the PACS.
        lease_s: how long a case stays with an annotator.
    """

    studies: str
    workspace: Path
    bundles: Path
    device: str = "auto"
    login: Login | None = None
    lease_s: float = LEASE_S

    @classmethod
    def of(cls, studies: str, conf: Mapping[str, Any]) -> Setup:
        """From what MONAI Label hands to an app."""
        login = Login(str(conf["user"]), str(conf["password"])) if conf.get("user") else None
        return cls(
            studies=studies.rstrip("/") if studies.startswith("http") else studies,
            workspace=Path(conf.get("workspace") or default_workspace(studies)),
            bundles=Path(conf.get("bundles") or models_dir()),
            device=str(conf.get("device") or "auto"),
            login=login,
            lease_s=float(conf.get("lease_s") or LEASE_S),
        )

    @property
    def is_pacs(self) -> bool:
        """Whether the studies lie in a PACS."""
        return self.studies.startswith(("http://", "https://"))


def default_workspace(studies: str) -> Path:
    """Beside the images, or for a PACS in the user's own data folder."""
    if studies.startswith(("http://", "https://")):
        name = hashlib.sha256(studies.rstrip("/").encode()).hexdigest()[:12]
        return Path.home() / ".local" / "share" / "cspine-label" / name
    return Path(studies) / ".cspine-label"
