"""Measuring the whole method on studies with truth.

::

    CaseSource -> Case -> Method -> CaseResult (one file each) -> metrics.json -> report.pdf

A `CaseSource` gives cases one by one; phantoms and RSNA 2022 are two. Metrics are pure functions on results.
"""

from cspine.evaluation.cases import Case, CaseSource, FractureBox, LevelTruth

__all__ = ["Case", "CaseSource", "FractureBox", "LevelTruth"]
