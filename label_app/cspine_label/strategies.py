"""Which case to ask a person about next."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cspine_label.errors import UnknownNameError

RANKED: Final = ("uncertainty", "tta", "disagreement")
STRATEGIES: Final[dict[str, str]] = {
    "first": "The first case without a final label",
    "random": "Any case without a final label",
    "uncertainty": "The case whose segmentation is least certain (entropy under dropout)",
    "tta": "The case whose segmentation changes most when the image is turned or mirrored",
    "disagreement": "The case whose levels change most when the image is turned or mirrored",
}


@dataclass(frozen=True)
class Choice:
    """The case that a strategy chose.

    Attributes:
        case_id: which.
        score: by which it was ranked; None where the strategy does not rank, or the case is not scored yet.
        note: a sentence where the strategy could not do what its name says.
    """

    case_id: str
    score: float | None = None
    note: str = ""


def check_strategy(name: str) -> None:
    """Refuse a name that is no strategy.

    Raises:
        UnknownNameError: it is none.
    """
    if name not in STRATEGIES:
        raise UnknownNameError(f"There is no strategy '{name}'; choose {', '.join(STRATEGIES)}.")


def choose(name: str, free: Sequence[str], scores: Mapping[str, float]) -> Choice | None:
    """Choose one of the cases.

    Args:
        name: of the strategy.
        free: cases that may be chosen, in their fixed order.
        scores: of the cases that were scored with the weights in use, for the ranking strategies.

    Returns:
        None where there is no case.

    Raises:
        UnknownNameError: there is no such strategy.
    """
    check_strategy(name)
    if not free:
        return None
    if name == "first":
        return Choice(free[0])
    if name == "random":
        return Choice(random.choice(free))
    known = [case for case in free if case in scores]
    if not known:
        return Choice(
            free[0], None, "No case is scored with the present weights yet; the first one was taken."
        )
    best = max(known, key=lambda case: scores[case])
    missing = len(free) - len(known)
    note = f"{missing} of {len(free)} cases are not scored yet." if missing else ""
    return Choice(best, scores[best], note)
