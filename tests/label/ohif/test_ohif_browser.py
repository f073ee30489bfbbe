"""OHIF in a real browser, with the real label server, its networks, and Orthanc behind it.

With CSPINE_PICTURES=docs/images the pictures of the documentation are made anew.
"""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom.codes import DECISION, VERTEBRA, VERTEBRA_OF
from cspine.dicom.segmentation import LEVEL_RGB
from cspine.findings import Decision
from cspine.volume import Grid

pytestmark = pytest.mark.timeout(1800)
C4 = Vertebra.C4
DEAD = "The server does not answer. What you did is still here; try again when it is back."


def stored_labels(seg: Dataset, grid: Grid) -> np.ndarray:
    """The vertebrae of a Segmentation, by their codes, on a grid with the same pixels."""
    levels = {
        int(item.SegmentNumber): VERTEBRA_OF[item.SegmentedPropertyTypeCodeSequence[0].CodeValue]
        for item in seg.SegmentSequence
    }
    labels = np.zeros(grid.shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, about in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(v) for v in about.PlanePositionSequence[0].ImagePositionPatient]
        index = np.rint(grid.to_index(position)).astype(int)
        assert index[1:].tolist() == [0, 0]
        number = int(about.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        labels[index[0]][frame > 0] = levels[number]
    return labels


def codes(item: Dataset) -> list[str]:
    """Every concept that a report names as a value, in its order."""
    found = [code.CodeValue for code in item.get("ConceptCodeSequence", [])]
    for child in item.get("ContentSequence", []):
        found += codes(child)
    return found


def test_one_address_opens_a_case_and_connects_without_typing(visit):
    assert visit.connected == "Connected."


def test_levels_have_their_names_and_the_colours_of_the_dicom_segmentation(visit):
    assert visit.styles == {level.name: list(LEVEL_RGB[level]) for level in CERVICAL}


def test_compressed_images_are_decoded_under_the_content_security_policy(visit, neck):
    assert visit.range_hu == [int(neck.volume.hu.min()), int(neck.volume.hu.max())]


def test_the_viewer_asks_nobody_but_this_server(visit):
    # The static build names web fonts; the content security policy keeps the browser from fetching them.
    assert {url.split("/")[2] for url in visit.elsewhere} <= {"fonts.googleapis.com"}


def test_run_draws_the_levels_that_the_network_found(visit):
    found = [level.name for level in CERVICAL if (visit.before.labels == level).any()]
    assert len(found) >= 5
    assert visit.segmented == f"Segmented: {', '.join(found)}. Correct it, then submit."


def test_the_brush_paints_the_chosen_level_and_nothing_else(visit):
    changed = visit.before.labels != visit.after.labels
    assert 10 < changed.sum() < 2000
    assert set(visit.after.labels[changed]) == {int(C4)}
    assert len(np.unique(np.nonzero(changed)[0])) == 1


def test_brackets_change_the_size_of_the_brush(visit):
    assert visit.radii == ("1 mm", "5 mm")


def test_what_was_painted_is_in_the_pacs_voxel_by_voxel_under_the_codes_of_the_levels(visit):
    (seg,) = visit.seg
    assert np.array_equal(stored_labels(seg, visit.after.grid), visit.after.labels)
    assert str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID) == visit.series(0)
    assert visit.saved == visit.segmented.split(".")[0].replace("Segmented", "Saved") + "."


def test_a_box_in_the_viewport_says_that_the_fracture_is_present_and_where(visit):
    said = visit.stored["C4"]
    assert said["decision"] == "present"
    ((low, high),) = said["boxes_lps_mm"]
    size = np.subtract(high, low)
    assert size[2] == pytest.approx(visit.after.grid.spacing_mm[0], abs=1e-3)
    drawn = np.argwhere(visit.after.labels == C4)
    center = visit.after.grid.to_lps_mm(drawn.mean(0))
    assert (low[:2] < center[:2]).all()
    assert (center[:2] < high[:2]).all()
    assert visit.stored["C5"] == {"decision": "absent"}
    assert set(visit.stored) == {"C4", "C5"}


def test_the_judgement_is_in_the_pacs_as_a_report_on_the_same_images(visit):
    (sr,) = visit.sr
    found = codes(sr)
    assert found.count(DECISION[Decision.PRESENT].value) >= 1
    assert VERTEBRA[C4].value in found
    assert sr.StudyInstanceUID == visit.seg[0].StudyInstanceUID


def test_a_label_that_the_server_refuses_is_explained_in_its_words(visit):
    assert visit.stray.startswith("C1 has only")
    assert "raw the vertebra" in visit.stray


def test_a_server_that_does_not_answer_costs_nothing(visit):
    assert visit.unreachable == DEAD
    assert len(visit.seg) == 1


def test_the_next_case_is_another_one(visit):
    assert len(visit.addresses) == 2
    assert visit.series(0) != visit.series(1)


def test_a_case_that_is_opened_again_shows_what_was_submitted(visit):
    assert visit.reopened == "Connected. This case is labelled already; its label is shown."
    assert np.array_equal(visit.recalled.labels, visit.after.labels)
    assert visit.recalled_judgement == "Present"
