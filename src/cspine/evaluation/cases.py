"""Studies with truth: what the method is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cspine.anatomy import Vertebra
from cspine.volume import FloatArray, SpineMask, Visibility, Volume


@dataclass(frozen=True)
class LevelTruth:
    """What is known of one vertebra.

    Attributes:
        fractured: whether it is.
        visibility: how much of it the scan shows; None where nobody drew a mask, which counts as complete.
        kinds: names of its fractures, where known.
        gap_mm: width of the widest gap, where known.
        detectability: d' of its fractures (`cspine.phantom.detectability`), where known.
        confounders: names of what resembles a fracture in it and is none, where known.
    """

    fractured: bool
    visibility: Visibility | None = None
    kinds: tuple[str, ...] = ()
    gap_mm: float | None = None
    detectability: float | None = None
    confounders: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether the method can be held to it: the vertebra is in view as a whole."""
        return self.visibility in (Visibility.COMPLETE, None)


@dataclass(frozen=True, eq=False)
class FractureBox:
    """Where a fracture is.

    Attributes:
        box_lps_mm: (2, 3) smallest and largest LPS corner.
        level: the broken vertebra, where known.
    """

    box_lps_mm: FloatArray
    level: Vertebra | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One study with truth.

    Attributes:
        identifier: names it in results; holds nothing of a patient.
        volume: the CT.
        levels: truth of the levels for which it is known.
        mask: true vertebrae on the volume's grid; None where nobody drew them.
        boxes: where the fractures are; None where nobody drew boxes, empty where there is no fracture.
        attributes: what subgroups are made of, name to class, as in "slice thickness": "up to 1.5 mm".
    """

    identifier: str
    volume: Volume
    levels: Mapping[Vertebra, LevelTruth]
    mask: SpineMask | None = None
    boxes: tuple[FractureBox, ...] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class CaseSource(Protocol):
    """A set of cases that are made or read one by one."""

    @property
    def name(self) -> str:
        """Names the set in results and folders: letters, digits and hyphens."""
        ...

    @property
    def description(self) -> str:
        """One sentence for the report: what these cases are."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether these are phantoms; False for patients."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything, as JSON, that makes the cases what they are, but not how many there are."""
        ...

    def identifiers(self) -> Sequence[str]:
        """The cases, always in the same order; they name files."""
        ...

    def load(self, identifier: str) -> Case:
        """Make or read one case.

        Raises:
            CspineError: it cannot be made or read; counted as a failure of that case.
            OutputError: nothing can be written; ends the evaluation.
        """
        ...
