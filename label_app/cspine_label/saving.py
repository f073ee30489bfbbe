"""From an upload to a label: checked, renumbered by names, kept, and sent to the PACS where there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cspine.volume import SpineMask, Visibility
from cspine_label.cases import FINAL, TAGS, CaseImage, Images
from cspine_label.errors import ConflictError, PacsError, RefusedLabelError, UnknownNameError
from cspine_label.fractures import Annotations, annotated_findings, as_json, check_against, read_annotations
from cspine_label.images import read_label
from cspine_label.labels import LabelFolder, LabelRecord
from cspine_label.levels import checked_mask, numbering, renamed
from cspine_label.outbox import Outbox, Upload
from cspine_label.pacs_images import PacsImages


class Saving:
    """The way of labels into the datastore."""

    def __init__(self, images: Images, labels: LabelFolder, workspace: Path) -> None:
        self._images, self._labels = images, labels
        self.outbox = (
            Outbox(workspace / "outbox", self._keep_and_send) if isinstance(images, PacsImages) else None
        )

    def save(self, upload: Upload) -> dict[str, Any]:
        """Check and keep a label; a final one of a PACS is sent there as SEG, and SR with its fractures.

        Returns:
            What the client is told: the levels, and "pending" where the PACS has not got it yet.

        Raises:
            UnknownNameError: an unknown case or tag.
            RefusedLabelError: the label cannot be what was meant.
        """
        if upload.tag not in TAGS:
            raise UnknownNameError(f"There is no tag '{upload.tag}'; labels are 'final' or 'original'.")
        if self.outbox is None or upload.tag != FINAL:
            return self._said(self._keep(upload)[0])
        entry = self.outbox.keep(upload)
        try:
            return self._said(self.outbox.send(entry))
        except PacsError as error:
            return {
                "levels": [],
                "pending": True,
                "message": f"{error} The label is kept here and will be sent when the PACS answers.",
            }

    def annotate(self, case_id: str, annotations: Annotations, who: str) -> dict[str, Any]:
        """Put what a person says of fractures beside the final label, and into the PACS.

        Raises:
            ConflictError: the case has no final label yet.
            RefusedLabelError: it does not fit that label.
        """
        record = self._labels.record(case_id, FINAL)
        if record is None:
            raise ConflictError("The vertebrae of this case are not labelled yet; save the label first.")
        params = {"fractures": as_json(annotations), "model": record.model}
        return self.save(Upload(case_id, FINAL, self._labels.path(case_id, FINAL), who, params))

    def _keep(self, upload: Upload) -> tuple[LabelRecord, CaseImage, SpineMask]:
        image = self._images.read(upload.case_id)
        mask = self._checked(upload, image)
        annotations = self._annotations(upload)
        check_against(annotations, mask)
        record = LabelRecord(
            case_id=upload.case_id,
            tag=upload.tag,
            saved=time.time(),
            by=upload.who,
            levels=tuple(str(f.level) for f in mask.levels if f.visibility is not Visibility.ABSENT),
            model=str(upload.params.get("model") or ""),
            fractures=as_json(annotations),
        )
        self._labels.save(mask, record)
        return record, image, mask

    def _annotations(self, upload: Upload) -> Annotations:
        """What came along or, where nothing did, what was said of this case before."""
        if upload.params.get("fractures") is not None:
            return read_annotations(upload.params["fractures"])
        before = self._labels.record(upload.case_id, upload.tag)
        return before.annotations if before else {}

    def _checked(self, upload: Upload, image: CaseImage) -> SpineMask:
        if upload.file.name.lower().endswith(".dcm"):
            return _from_dicom(upload.file, image)
        info = upload.params.get("label_info")
        if info is not None and not (
            isinstance(info, list) and all(isinstance(item, Mapping) for item in info)
        ):
            raise RefusedLabelError("label_info is a list of objects with name and idx.")
        names = numbering(info)
        grid = image.volume.grid
        return checked_mask(grid, renamed(read_label(upload.file, grid), names))

    def _keep_and_send(self, upload: Upload) -> LabelRecord:
        """Raises PacsError where the PACS has not got it; the label is then kept all the same."""
        assert isinstance(self._images, PacsImages)
        from cspine_label.reports import drawn_report
        from cspine_label.segmentations import drawn_segmentation

        record, image, mask = self._keep(upload)
        assert image.series is not None
        findings = replace(
            annotated_findings(record.annotations, image.volume, mask),
            study_uid=image.series.study_uid,
            series_uid=image.series.series_uid,
        )
        segmentation = drawn_segmentation(image.series, mask, findings, upload.who)
        objects = [segmentation]
        if record.fractures:
            objects.append(drawn_report(image.series, findings, segmentation, upload.who))
        self._images.pacs.store(objects)
        self._images.forget()
        sent = replace(record, extra={"SeriesInstanceUID": str(segmentation.SeriesInstanceUID)})
        self._labels.save(mask, sent)
        return sent

    def _said(self, record: LabelRecord) -> dict[str, Any]:
        return {"levels": list(record.levels), "pending": False}


def _from_dicom(file: Path, image: CaseImage) -> SpineMask:
    from pydicom import dcmread

    from cspine.dicom.headers import quietly
    from cspine_label.segmentations import read_segmentation

    if image.series is None:
        raise RefusedLabelError("A DICOM Segmentation needs images in DICOM; this case is a NIfTI file.")
    try:
        with quietly():
            dataset = dcmread(file)
    except Exception as error:  # pydicom raises many kinds on damaged bytes
        raise RefusedLabelError("The label is no DICOM file that can be read.") from error
    return read_segmentation(dataset, image.series)
