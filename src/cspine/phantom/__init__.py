"""Synthetic necks with known truth.

::

    neck = sample_neck(seed)
    image = render(neck, grid, sample_scanner(seed))
"""

from cspine.phantom.confounders import Confounder, ConfounderKind
from cspine.phantom.detectability import detectability
from cspine.phantom.fractures import Fracture, FractureKind
from cspine.phantom.meshes import MeshAnatomy
from cspine.phantom.neck import Neck, sample_neck
from cspine.phantom.procedural import ProceduralAnatomy
from cspine.phantom.profile import DEFAULT, SHIFTED, PhantomProfile
from cspine.phantom.render import PhantomImage, render
from cspine.phantom.scanner import Scanner, sample_scanner
from cspine.phantom.template import Anatomy

__all__ = [
    "DEFAULT",
    "SHIFTED",
    "Anatomy",
    "Confounder",
    "ConfounderKind",
    "Fracture",
    "FractureKind",
    "MeshAnatomy",
    "Neck",
    "PhantomImage",
    "PhantomProfile",
    "ProceduralAnatomy",
    "Scanner",
    "detectability",
    "render",
    "sample_neck",
    "sample_scanner",
]
