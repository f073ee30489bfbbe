"""The names of the files in OUTPUT and of the stages, once."""

from __future__ import annotations

from typing import Final

SEGMENTATION: Final = "segmentation.seg.dcm"
REPORT: Final = "report.sr.dcm"
FINDINGS: Final = "findings.json"
PAGE_PDF: Final = "report.pdf"
PAGE_PNG: Final = "report.png"
RUN: Final = "run.json"

RESULTS: Final = (SEGMENTATION, REPORT, PAGE_PDF, PAGE_PNG, FINDINGS, RUN)
"""What every analysed study has."""

ALSO: Final = {
    "key-objects": "key_objects.kos.dcm",
    "capture": "report.sc.dcm",
    "pdf": "report.pdf.dcm",
}
"""What viewers that show no SR can be given beside it, by the name of the option."""

PUBLISHED: Final = (*ALSO.values(), *RESULTS)
"""In the order in which they are put in place: run.json, which holds the hashes of the others, comes last."""

START: Final = "start"
STAGES: Final = {
    START: "Loading the networks",
    "read": "Reading the study",
    "preprocess": "Resampling",
    "segment": "Finding the vertebrae",
    "crop": "Cutting out the vertebrae",
    "classify": "Looking for fractures",
    "write_segmentation": "Writing the segmentation",
    "write_report": "Writing the report",
    "write_summary": "Writing the summary",
}
"""Stages of a study, and how progress is shown."""
WRITERS: Final = ("write_segmentation", "write_report", "write_summary")
