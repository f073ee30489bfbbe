"""OHIF in a real browser, with the real label server, its networks, and Orthanc behind it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from cspine.anatomy import CERVICAL, Vertebra
from cspine.dicom.codes import DECISION, VERTEBRA, VERTEBRA_OF
from cspine.dicom.segmentation import LEVEL_RGB
from cspine.findings import Decision
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid

pytestmark = pytest.mark.timeout(1800)
C4 = Vertebra.C4
DEAD = "The server does not answer. What you did is still here; try again when it is back."

# What is drawn, with its place: x fastest in the file, so (slice, row, column) as numpy reads it.
LABELS = """async () => {
  const viewer = await import('/ohif/cspine/viewer.js');
  const file = new Blob([viewer.labels()]);
  const text = await new Promise(done => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(',')[1]);
    reader.readAsDataURL(file);
  });
  return { text, ...viewer.grid() };
}"""
STYLES = """async () => {
  const service = window.services.segmentationService;
  const segments = Object.values(service.getSegmentation('cspine').segments);
  const [viewport] = service.getViewportIdsWithSegmentation('cspine');
  const color = segment => service.getSegmentColor(viewport, 'cspine', segment.segmentIndex);
  return segments.map(segment => [segment.label, color(segment).slice(0, 3)]);
}"""
RANGE_HU = """() => {
  const values = window.cornerstone.cache.getVolumes()[0].voxelManager.getCompleteScalarDataArray();
  return values.reduce(([low, high], hu) => [Math.min(low, hu), Math.max(high, hu)], [Infinity, -Infinity]);
}"""
CENTER_ON_PAGE = """async value => {
  const viewer = await import('/ohif/cspine/viewer.js');
  const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport('mpr-axial');
  const [x, y] = viewport.worldToCanvas(viewer.centerOf(value));
  const box = viewport.canvas.getBoundingClientRect();
  return [box.x + x, box.y + y];
}"""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The label map in the viewer: (slice, row, column) on a grid in LPS mm."""

    labels: np.ndarray
    grid: Grid


@dataclass(eq=False)
class Visit:
    """What was seen while an annotator worked on one case and went to the next."""

    connected: str = ""
    styles: dict[str, list[int]] = field(default_factory=dict)
    range_hu: list[int] = field(default_factory=list)
    unreachable: str = ""
    stray: str = ""
    segmented: str = ""
    before: Drawn | None = None
    after: Drawn | None = None
    radii: tuple[str, ...] = ()
    saved: str = ""
    seg: list[Dataset] = field(default_factory=list)
    sr: list[Dataset] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    reopened: str = ""
    recalled: Drawn | None = None
    recalled_judgement: str = ""
    elsewhere: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def visits() -> list[Visit]:
    return []


@pytest.fixture
def visit(visits, request, neck, tmp_path) -> Visit:
    """The visit, made once for all tests here."""
    if not visits:
        server, orthanc, page = map(request.getfixturevalue, ("pacs_server", "orthanc", "page"))
        for seed in (21, 22):
            options = StudyOptions(patient_id=f"OHIF-{seed}", seed=seed, transfer_syntax=JPEGLSLossless)
            orthanc.send(write_study(neck.volume, tmp_path / str(seed), options))
        visits.append(Annotator(page, server, orthanc).work())
    return visits[0]


class Annotator:
    """Works on a case as a person would: with mouse and keys."""

    def __init__(self, page: Any, server: Any, orthanc: Any) -> None:
        self.page, self.server, self.orthanc, self.seen = page, server, orthanc, Visit()
        page.on("request", self._note_request)

    def work(self) -> Visit:
        self.connect(lambda: self.page.goto(f"{self.server.url}/ohif/next"))
        self.seen.styles = dict(self.page.evaluate(STYLES))
        self.submit_a_stray_stroke()
        self.run()
        self.paint()
        self.judge()
        self.submit_while_nothing_answers()
        self.submit()
        self.connect(lambda: self.page.click("#cspine-next"))
        self.reopen()
        return self.seen

    def connect(self, go: Callable[[], Any]) -> None:
        before = self.page.url
        go()
        self.page.wait_for_url(lambda url: url != before and "/monai-label" in url)
        self.seen.connected = self.status("Connected.")
        self.seen.addresses.append(self.page.url)

    def reopen(self) -> None:
        self.page.goto(self.seen.addresses[0])
        self.seen.reopened = self.status("labelled already")
        self.seen.recalled = self.drawn()
        chosen = self.page.get_by_role("group", name="C4").locator("[data-decision][aria-pressed=true]")
        self.seen.recalled_judgement = chosen.inner_text()

    def submit_a_stray_stroke(self) -> None:
        for _ in range(3):
            self.page.keyboard.press("[")
        self.seen.radii += (self.page.locator("#cspine-radius").inner_text(),)
        self.page.keyboard.press("b")
        x, y = self.middle_of_axial()
        self.drag((x, y), (x + 1, y))
        self.page.click("#cspine-submit")
        self.seen.stray = self.status("stray stroke")
        for _ in range(4):
            self.page.keyboard.press("]")
        self.seen.radii += (self.page.locator("#cspine-radius").inner_text(),)

    def run(self) -> None:
        self.page.click("#cspine-run")
        self.seen.segmented = self.status("Segmented")
        self.seen.before = self.drawn()
        self.seen.range_hu = self.page.evaluate(RANGE_HU)

    def paint(self) -> None:
        for _ in range(3):
            self.page.keyboard.press("n")
        x, y = self.page.evaluate(CENTER_ON_PAGE, int(C4))
        self.drag((x, y + 40), (x + 25, y + 45))
        self.seen.after = self.drawn()

    def judge(self) -> None:
        self.page.keyboard.press("d")
        x, y = self.page.evaluate(CENTER_ON_PAGE, int(C4))
        self.drag((x - 20, y - 15), (x + 20, y + 10))
        self.page.locator(".cspine-level[aria-label=C4] .cspine-marks").get_by_text("▭").wait_for()
        self.page.get_by_role("group", name="C5").get_by_role("button", name="Absent").click()

    def submit_while_nothing_answers(self) -> None:
        self.page.route("**/datastore/label*", lambda route: route.abort())
        self.page.click("#cspine-submit")
        self.seen.unreachable = self.status("does not answer")
        self.page.unroute("**/datastore/label*")

    def submit(self) -> None:
        self.page.click("#cspine-submit")
        self.seen.saved = self.status("Saved")
        self.seen.seg = [dcmread(io.BytesIO(data)) for data in self.orthanc.instances("SEG")]
        self.seen.sr = [dcmread(io.BytesIO(data)) for data in self.orthanc.instances("SR")]
        with self.server.http as http:
            self.seen.stored = http.get(
                "/fractures", params={"image": series_of(self.seen.addresses[0])}
            ).json()

    def status(self, text: str) -> str:
        line = self.page.locator(".cspine-status", has_text=text)
        line.wait_for()
        return line.inner_text()

    def drawn(self) -> Drawn:
        found = self.page.evaluate(LABELS)
        columns, rows, slices = found["size"]
        flat = np.frombuffer(base64.b64decode(found["text"]), np.uint8)
        affine = np.eye(4)
        affine[:3, :3] = np.array(found["directions"])[::-1].T
        affine[:3, 3] = found["origin"]
        shape = (slices, rows, columns)
        return Drawn(flat.reshape(shape), Grid(shape, affine))

    def middle_of_axial(self) -> tuple[float, float]:
        box = self.page.locator("canvas").first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=6)
        mouse.up()

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.seen.elsewhere.append(request.url)


def series_of(address: str) -> str:
    """The series that an address of the viewer opens."""
    return parse_qs(urlsplit(address).query)["SeriesInstanceUIDs"][0]


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
    assert str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID) == series_of(visit.addresses[0])
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
    first, second = visit.addresses
    assert series_of(first) != series_of(second)


def test_a_case_that_is_opened_again_shows_what_was_submitted(visit):
    assert visit.reopened == "Connected. This case is labelled already; its label is shown."
    assert np.array_equal(visit.recalled.labels, visit.after.labels)
    assert visit.recalled_judgement == "Present"
