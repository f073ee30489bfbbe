"""The functions of the library that the graph runs, tied to one study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cspine.dicom.provenance import from_bytes, to_bytes
from cspine.dicom.report import build_report
from cspine.dicom.segmentation import build_segmentation
from cspine.dicom.verification import verify_report, verify_segmentation
from cspine.findings import StudyFindings
from cspine.volume import SpineMask
from cspine_operators.values import EncodedDicom, SummaryFiles
from fracture_map import names
from fracture_map.app import Steps
from fracture_map.summary import encode_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset

    from cspine.dicom.series import CtSeries
    from cspine.method import Method
    from cspine.page import ReportPage


def steps_of(
    method: Method, read: Callable[[], CtSeries], previous: Path | None, also: Sequence[str] = ()
) -> Steps:
    """The steps of one study.

    Args:
        method: the networks; may serve many studies.
        read: reads the study.
        previous: the report in OUTPUT that this study's report will replace.
        also: of `names.ALSO`, what is written beside the report.
    """

    def encode_report(
        series: CtSeries, findings: StudyFindings, segmentation: Dataset | None
    ) -> EncodedDicom:
        before = from_bytes(previous.read_bytes()) if previous else None
        report = build_report(
            series, findings, segmentation, previous=before, operating_point=method.operating_point
        )
        data = to_bytes(report)
        verify_report(data, findings)
        return EncodedDicom(report, data)

    def summarise(series: CtSeries, mask: SpineMask, findings: StudyFindings) -> SummaryFiles:
        from cspine.page import draw_report

        page = draw_report(series.volume, mask, findings, method.operating_point)
        files = {
            names.FINDINGS: encode_findings(findings),
            names.PAGE_PDF: page.pdf,
            names.PAGE_PNG: page.png,
        }
        return SummaryFiles(files | _encode_also(also, series, findings, page))

    return Steps(
        read=read,
        model_grids=method.model_grids,
        segment=method.name_vertebrae,
        crop=method.crops,
        judge=method.judge,
        encode_segmentation=_encode_segmentation,
        encode_report=encode_report,
        summarise=summarise,
    )


def _encode_segmentation(series: CtSeries, mask: SpineMask, findings: StudyFindings) -> EncodedDicom | None:
    segmentation = build_segmentation(series, mask, findings)
    if segmentation is None:
        return None
    data = to_bytes(segmentation)
    verify_segmentation(data, series, mask)
    return EncodedDicom(segmentation, data)


def _encode_also(
    also: Sequence[str], series: CtSeries, findings: StudyFindings, page: ReportPage
) -> dict[str, bytes]:
    """The objects for viewers that show no SR; without a fracture there are no key objects."""
    from cspine.dicom.capture import build_capture
    from cspine.dicom.encapsulated import build_encapsulated_pdf
    from cspine.dicom.key_objects import build_key_objects
    from cspine.page import png_to_rgb

    header = series.headers[0]
    makers: dict[str, Callable[[], Dataset | None]] = {
        "key-objects": lambda: build_key_objects(series, findings),
        "capture": lambda: build_capture(header, png_to_rgb(page.png), findings),
        "pdf": lambda: build_encapsulated_pdf(header, page.pdf, findings),
    }
    made = {names.ALSO[name]: makers[name]() for name in also}
    return {name: to_bytes(dataset) for name, dataset in made.items() if dataset is not None}
