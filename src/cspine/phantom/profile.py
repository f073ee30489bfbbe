"""The ranges from which synthetic necks and scanners are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

Range = tuple[float, float]

FRACTURE_LEVEL_WEIGHTS: Final[Mapping[int, float]] = {1: 10, 2: 20, 3: 5, 4: 7, 5: 11, 6: 19, 7: 27}
"""Share of fractured vertebrae by level, per cent, rounded: RSNA 2022's training set, Lin et al. 2023
(doi:10.1148/ryai.230034): C7, C6 and C2 lead."""


@dataclass(frozen=True)
class PhantomProfile:
    """Ranges (low, high) of everything that varies; drawn uniformly unless the name says otherwise.

    Lengths in mm, angles in degrees, densities in HU; probabilities in [0, 1]. `body_share` stretches a
    vertebra within its level: above 1 the disc below it is thinner. `mottle` and `mottle_mm`, `rim` and
    `rim_mm`, see `cspine.phantom.bone.Look`, are for trainings that want bone more varied than it is
    measured on; `fracture_kind_factors`, how many times as often as `cspine.phantom.fractures` has it a kind
    is drawn, by its name ("teardrop"), are for those that want more of what is hard to see.
    """

    # Anatomy
    level_height_mm: Range = (12.8, 21.4)
    level_jitter: Range = (0.93, 1.07)
    width_scale: Range = (0.9, 1.12)
    body_share: Range = (0.93, 1.14)
    lordosis_deg: Range = (-18.0, 48.0)
    pitch_deg: Range = (-14.0, 14.0)
    roll_deg: Range = (-9.0, 9.0)
    yaw_deg: Range = (-14.0, 14.0)
    scoliosis_deg: Range = (-7.0, 7.0)
    segment_jitter_deg: Range = (-3.0, 3.0)
    atlas_yaw_deg: Range = (-22.0, 22.0)
    atlas_pitch_deg: Range = (-12.0, 8.0)
    skull_pitch_deg: Range = (-16.0, 14.0)
    skull_gap_mm: Range = (-1.0, 2.5)
    warp_mm: Range = (0.2, 1.1)
    degeneration: Range = (0.0, 1.0)
    fused_c2_c3: float = 0.03
    cervical_rib: float = 0.05
    shape_variants: int = 8
    # Bone
    cortex_hu: Range = (550.0, 1400.0)
    cortex_mm: Range = (0.5, 2.6)
    marrow_hu: Range = (90.0, 600.0)
    marrow_texture_hu: Range = (15.0, 120.0)
    osteopenia: float = 0.2
    arch_hu: Range = (0.0, 600.0)
    shell: Range = (0.4, 1.0)
    patch_hu: Range = (0.0, 150.0)
    mottle: Range = (0.0, 0.0)
    mottle_mm: Range = (2.0, 5.0)
    rim: Range = (0.0, 0.0)
    rim_mm: Range = (1.0, 4.0)
    # Soft tissue and surroundings
    muscle_hu: Range = (35.0, 80.0)
    fat_hu: Range = (-125.0, -70.0)
    contrast: float = 0.3
    vessel_hu: Range = (120.0, 420.0)
    neck_radius_mm: Range = (50.0, 82.0)
    fat_mm: Range = (3.0, 18.0)
    airway_radius_mm: Range = (4.0, 12.0)
    blobs: Range = (0.0, 6.0)
    distractor_bones: Range = (0.0, 6.0)
    table: float = 0.6
    # Fractures and what resembles them
    fractured: float = 0.45
    levels_fractured: tuple[float, float, float] = (0.72, 0.2, 0.08)
    displaced: float = 0.6
    hairline_mm: Range = (0.35, 1.0)
    gap_mm: Range = (0.8, 3.0)
    displacement_mm: Range = (0.5, 4.0)
    height_loss: Range = (0.1, 0.5)
    vessel_channels: Range = (0.2, 0.9)
    old_lines: float = 0.12
    ossicles: float = 0.12
    schmorl: float = 0.08
    calcifications: float = 0.3
    fracture_level_weights: Mapping[int, float] = field(default_factory=lambda: dict(FRACTURE_LEVEL_WEIGHTS))
    fracture_kind_factors: Mapping[str, float] = field(default_factory=dict)
    # Scanner
    slice_thickness_mm: Range = (0.5, 3.0)
    thick_slices: float = 0.2
    thick_mm: Range = (2.5, 5.0)
    kernel_mm: Range = (0.2, 0.8)
    sharpening: Range = (0.0, 0.7)
    noise_hu: Range = (6.0, 60.0)
    noise_correlation_mm: Range = (0.25, 1.1)
    streak_hu: Range = (0.0, 90.0)
    motion: float = 0.1
    metal: float = 0.12
    gain: Range = (0.92, 1.1)
    shift_hu: Range = (-25.0, 25.0)
    bias_hu: Range = (0.0, 25.0)


DEFAULT: Final = PhantomProfile()
"""What the networks are trained on."""

SHIFTED: Final = replace(
    DEFAULT,
    level_height_mm=(12.4, 21.8),
    width_scale=(0.86, 1.18),
    lordosis_deg=(-24.0, 56.0),
    warp_mm=(0.6, 1.6),
    degeneration=(0.3, 1.0),
    cortex_hu=(450.0, 1150.0),
    cortex_mm=(0.4, 1.2),
    marrow_hu=(60.0, 300.0),
    osteopenia=0.35,
    muscle_hu=(25.0, 70.0),
    fat_mm=(6.0, 25.0),
    slice_thickness_mm=(0.9, 3.0),
    kernel_mm=(0.4, 0.95),
    sharpening=(0.5, 1.1),
    noise_hu=(25.0, 85.0),
    noise_correlation_mm=(0.5, 1.4),
    streak_hu=(30.0, 140.0),
    motion=0.2,
    metal=0.2,
)
"""A domain that training never saw: other anatomy ranges, kernels and noise."""
