"""Which vertebra is which: the most likely order of levels, and how much likelier than any other it is.

Networks name single vertebrae well but slip by one over whole stretches. A spine has an order: from one piece
of bone to the next below, the level goes one further, or stays where one vertebra was seen in two pieces; it
never skips one. Viterbi's algorithm finds the best such order; its margin tells how far the second best one
is behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from cspine.anatomy import BACKGROUND, CERVICAL, THORACIC, Vertebra
from cspine.models.components import MISSED_FROM, SAME_UNTIL, STATES, Piece, Pieces, pitch_mm
from cspine.volume import FloatArray

NEXT_FROM: Final = 0.45
"""Pitches from which two pieces may be two vertebrae."""
STRAY_FROM: Final = 0.8
"""Pitches from which two pieces of one name are not one vertebra."""
STRAY_SHARE: Final = 0.5
"""Of the volume of the larger one: a smaller piece so far away is no vertebra at all."""
NATS_PER_PITCH: Final = 6.0
"""Penalty for pieces that are too far apart for one vertebra or too close for two."""
TWO_WHOLE: Final = 8.0
"""How many times the penalty for one vertebra counts where both pieces are as large as the neck's others."""
SKULL_REACH: Final = 1.6
"""Pitches below the skull's lowest point within which the first vertebra is C1."""
SKULL_NATS: Final = 3.0
WHOLE_ML: Final = 4.0
"""A piece of this size has its full say; smaller ones have less."""
ALIKE: Final = slice(2, 6)
"""States of C3 to C6, which have no shape of their own."""
ALIKE_SHARE: Final = 0.2
"""How much the network's choice among these counts. What it says of several of them is one opinion repeated,
and slips as one; that a piece is C2, C7 or thoracic it sees on the piece itself."""


@dataclass(frozen=True)
class Decoded:
    """The order that was found.

    Attributes:
        states: for each piece its level (1..7) or `THORACIC`; `BACKGROUND` where it is no vertebra.
        margins: for each piece, by how many nats per vertebra the best order that names it otherwise is
            behind.
    """

    states: tuple[int, ...]
    margins: tuple[float, ...]

    def level_margins(self) -> dict[Vertebra, float]:
        """The smallest margin of each cervical level that was found."""
        return {
            vertebra: min(m for state, m in zip(self.states, self.margins, strict=True) if state == vertebra)
            for vertebra in CERVICAL
            if vertebra in self.states
        }


def decode(pieces: Pieces) -> Decoded:
    """Name the pieces of an image."""
    return decode_sequence(pieces.pieces, pieces.skull_mm)


def decode_sequence(pieces: Sequence[Piece], skull_mm: float | None = None) -> Decoded:
    """Name a sequence of pieces, ordered from head to feet."""
    if not pieces:
        return Decoded((), ())
    pitch = pitch_mm([piece.height_mm for piece in pieces])
    nodes, gaps = _with_missed(pieces, pitch)
    nothing = np.zeros(len(STATES))
    evidence = np.stack([_weight(piece) * _tempered(piece.evidence) if piece else nothing for piece in nodes])
    usual_ml = float(np.median([piece.volume_ml for piece in pieces]))
    whole = [min(1.0, piece.volume_ml / usual_ml) ** 2 if piece else 0.0 for piece in nodes]
    steps = [
        _step_scores(None if gap is None else gap / pitch, min(pair))
        for gap, pair in zip(gaps, pairwise(whole), strict=True)
    ]
    evidence[0] += _start_scores(pieces[0], skull_mm, pitch)
    best = _max_marginals(evidence, steps)
    chosen = _best_path(evidence, steps)
    total = best[0].max()
    vertebrae = len({s for s in chosen if STATES[s] != THORACIC}) or 1
    states, margins = [], []
    for piece, state, scores in zip(nodes, chosen, best, strict=True):
        if piece is not None:
            states.append(STATES[state])
            margins.append(float(total - np.delete(scores, state).max()) / vertebrae)
    return Decoded(_without_strays(pieces, states, pitch), tuple(margins))


def _without_strays(pieces: Sequence[Piece], states: Sequence[int], pitch: float) -> tuple[int, ...]:
    """Leave out small pieces too far from the largest one of their level to be of it: skull, jaw or rib."""
    main = {
        state: max((p for p, s in zip(pieces, states, strict=True) if s == state), key=lambda p: p.volume_ml)
        for state in set(states)
    }

    def is_stray(piece: Piece, state: int) -> bool:
        far = abs(piece.height_mm - main[state].height_mm) >= STRAY_FROM * pitch
        return far and state != THORACIC and piece.volume_ml < STRAY_SHARE * main[state].volume_ml

    return tuple(
        BACKGROUND if is_stray(piece, state) else state for piece, state in zip(pieces, states, strict=True)
    )


def _weight(piece: Piece) -> float:
    return min(1.0, piece.volume_ml / WHOLE_ML)


def _tempered(evidence: FloatArray) -> FloatArray:
    """Evidence with less between the levels that look alike, and as much between them and the others."""
    alike = evidence[ALIKE]
    any_of_them = np.logaddexp.reduce(alike)
    tempered = evidence.copy()
    tempered[ALIKE] = ALIKE_SHARE * alike + (1 - ALIKE_SHARE) * any_of_them
    return tempered


def _gaps_mm(pieces: Sequence[Piece]) -> list[float]:
    return [a.height_mm - b.height_mm for a, b in pairwise(pieces)]


def _with_missed(pieces: Sequence[Piece], pitch: float) -> tuple[list[Piece | None], list[float | None]]:
    """Put None where a vertebra must have been missed; give the gaps too, None around it."""
    nodes: list[Piece | None] = [pieces[0]]
    between: list[float | None] = []
    for piece, gap in zip(pieces[1:], _gaps_mm(pieces), strict=True):
        missed = 0 if gap < MISSED_FROM * pitch else max(1, round(gap / pitch) - 1)
        between += [None] * (missed + 1) if missed else [gap]
        nodes += [*[None] * missed, piece]
    return nodes, between


def _step_scores(pitches: float | None, whole: float) -> FloatArray:
    """(8, 8) log-score of going from one state to the next below, `pitches` apart.

    `whole` is how far the smaller of the two pieces is a whole vertebra, 0 to 1: a spinous process may lie a
    pitch below its body, and bone of the skull above C1; another whole vertebra may not.
    """
    scores = np.full((len(STATES), len(STATES)), -np.inf)
    dear = NATS_PER_PITCH * (1 + (TWO_WHOLE - 1) * whole)
    same = 0.0 if pitches is None else -dear * max(0.0, pitches - SAME_UNTIL)
    further = 0.0 if pitches is None else -NATS_PER_PITCH * max(0.0, NEXT_FROM - pitches)
    for state in range(len(STATES)):
        scores[state, state] = same
        if state + 1 < len(STATES):
            scores[state, state + 1] = further
    scores[-1, -1] = 0.0  # below the first thoracic vertebra come more of them
    return scores


def _start_scores(first: Piece, skull_mm: float | None, pitch: float) -> FloatArray:
    """Right below the skull comes C1."""
    scores = np.zeros(len(STATES))
    if skull_mm is not None and skull_mm - first.height_mm < SKULL_REACH * pitch:
        scores[1:] = -SKULL_NATS
    return scores


def _forward(evidence: FloatArray, steps: Sequence[FloatArray]) -> list[FloatArray]:
    scores = [evidence[0]]
    for here, step in zip(evidence[1:], steps, strict=True):
        scores.append((scores[-1][:, None] + step).max(0) + here)
    return scores


def _max_marginals(evidence: FloatArray, steps: Sequence[FloatArray]) -> list[FloatArray]:
    """For each node and state the score of the best order that goes through it."""
    forward = _forward(evidence, steps)
    backward = _forward(evidence[::-1], [step.T for step in reversed(steps)])[::-1]
    return [a + b - here for a, b, here in zip(forward, backward, evidence, strict=True)]


def _best_path(evidence: FloatArray, steps: Sequence[FloatArray]) -> list[int]:
    forward = _forward(evidence, steps)
    path = [int(forward[-1].argmax())]
    for scores, step in zip(reversed(forward[:-1]), reversed(steps), strict=True):
        path.append(int((scores + step[:, path[-1]]).argmax()))
    return path[::-1]
