"""Heads of the fracture classifier: planes in order, and the seven vertebrae of a study together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspine.anatomy import CERVICAL


class StudyLogits(NamedTuple):
    """What the study head says of S studies.

    Attributes:
        levels: (S, 7) logits, C1..C7; those of absent levels mean nothing.
        overall: (S,) logit of any fracture.
    """

    levels: Tensor
    overall: Tensor


class SequenceHead(nn.Module):
    """Planes in order to slice logits, an embedding and the level's logit."""

    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Linear(features, 2 * hidden), nn.LayerNorm(2 * hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.slice = nn.Linear(2 * hidden, 1)
        self.attention = nn.Linear(2 * hidden, 1)
        self.level = nn.Linear(2 * hidden + 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, steps, F) to embedding (N, 2 * hidden), level (N,) and slices (N, steps)."""
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.gru(self.squeeze(features.float()))
            # The plane's own logit is the start; what its neighbours say is added.
            slices = self.slice(states).squeeze(-1) + features[..., -1].float()
            # Planes that look fractured draw the attention; what it learns beyond that is added.
            weights = (self.attention(states).squeeze(-1) + slices).softmax(1)
            embedding = torch.einsum("nsf,ns->nf", states, weights)
            peak = slices.logsumexp(1, keepdim=True)
            return embedding, self.level(torch.cat([embedding, peak], 1)).squeeze(-1), slices


class StudyHead(nn.Module):
    """Seven vertebrae seen together: refined level logits and the spine's logit.

    It starts as the identity on the level logits and learns what neighbours and the level's own rate of
    fractures change. Absent levels are masked out of the attention, so that they have no influence. The
    spine's logit follows the levels': one with a view of its own was no better on phantoms, and surer than
    any level that a real neck without a known fracture has one.
    """

    def __init__(self, embedding: int, width: int, dropout: float, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Linear(embedding + 1, width)
        self.position = nn.Parameter(torch.zeros(len(CERVICAL) + 1, width))
        nn.init.normal_(self.position, std=0.1)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.level = nn.Linear(width, 1)
        self.overall = nn.Linear(1, 1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        nn.init.ones_(self.overall.weight)
        nn.init.zeros_(self.overall.bias)

    def forward(self, embeddings: Tensor, level_logits: Tensor, present: Tensor) -> StudyLogits:
        """Map embeddings (S, 7, E), level logits (S, 7) and present (S, 7) bool to `StudyLogits`."""
        levels = self.token(torch.cat([embeddings, level_logits.unsqueeze(-1)], -1)) + self.position[1:]
        whole = self.position[:1].expand(len(levels), 1, -1)
        seen = nn.functional.pad(present, (1, 0), value=True)
        out = self.encoder(torch.cat([whole, levels], 1), src_key_padding_mask=~seen)
        refined = level_logits + self.level(out[:, 1:]).squeeze(-1)
        strongest = refined.masked_fill(~present, -1e4).logsumexp(1, keepdim=True)
        return StudyLogits(torch.where(present, refined, 0.0), self.overall(strongest).squeeze(-1))
