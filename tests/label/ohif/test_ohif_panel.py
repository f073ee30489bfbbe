"""Parts of the panel by themselves, in a real browser."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from cspine.volume import Grid
from cspine_label.images import write_image

pytestmark = pytest.mark.timeout(600)
UNREACHABLE_PACS = "http://127.0.0.1:9/dicom-web"
ELSEWHERE = "The segmentation does not lie on the grid of the image that is shown."

# A label map of 2 x 3 x 4 voxels, 0..23 in order, written on one grid and read on another.
READ_ON = """async ([from, onto, highest]) => {
  const { encode, decode } = await import('/ohif/cspine/nrrd.js');
  const values = Uint8Array.from({ length: 24 }, (_, i) => i);
  const file = await encode(values, from);
  try {
    return Array.from(await decode(await file.arrayBuffer(), onto, highest));
  } catch (error) {
    return error.message;
  }
}"""
READ_NIFTI = """async ([text, onto]) => {
  const { decode } = await import('/ohif/cspine/nifti.js');
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return Array.from(await decode(bytes.buffer, onto, 7));
}"""
GRID = {"size": [2, 3, 4], "directions": [[0.5, 0, 0], [0, 0.75, 0], [0, 0, 2]], "origin": [-10, 20, 30]}


@pytest.fixture
def read_on(viewer_alone, page):
    """A function: the values 0..23 written on GRID and read on another; or the sentence that refuses."""
    page.goto(str(viewer_alone(UNREACHABLE_PACS).base_url.join("/ohif/next")))
    return lambda onto, highest=23: page.evaluate(READ_ON, [GRID, onto, highest])


def test_a_label_is_read_as_it_was_written(read_on):
    assert read_on(GRID) == list(range(24))


def test_slices_and_axes_that_run_otherwise_are_turned(read_on):
    upside_down = {**GRID, "directions": [*GRID["directions"][:2], [0, 0, -2]], "origin": [-10, 20, 36]}
    assert read_on(upside_down) == [v for z in (3, 2, 1, 0) for v in range(6 * z, 6 * z + 6)]
    exchanged = {**GRID, "size": [4, 3, 2], "directions": GRID["directions"][::-1]}
    assert read_on(exchanged) == [x + 2 * y + 6 * z for x in range(2) for y in range(3) for z in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        {"origin": [-10, 20, 31]},
        {"size": [2, 3, 3]},
        {"directions": [[0.5, 0, 0], [0, 0.75, 0], [0, 0, 2.5]]},
        {"directions": [[0.5, 0, 0], [0, 0.7, 0.3], [0, 0, 2]]},
    ],
)
def test_a_segmentation_of_another_grid_is_refused(read_on, change):
    assert read_on({**GRID, **change}) == ELSEWHERE


def test_values_that_are_no_vertebra_are_refused(read_on):
    assert read_on(GRID, 7) == "The segmentation holds values that are no vertebra."


def test_a_saved_label_is_shown_again_as_it_was_submitted(viewer_alone, page, tmp_path):
    """The server keeps slices from the feet, the viewer here shows them from the head."""
    affine = np.array([[0, 0, 0.5, -10], [0, 0.75, 0, 20], [2, 0, 0, 30], [0, 0, 0, 1]], float)
    grid = Grid((4, 3, 2), affine)
    labels = (np.arange(24) % 8).astype(np.uint8).reshape(grid.shape)
    write_image(labels, grid, tmp_path / "label.nii.gz")
    text = base64.b64encode((tmp_path / "label.nii.gz").read_bytes()).decode()
    upside_down = {**GRID, "directions": [*GRID["directions"][:2], [0, 0, -2]], "origin": [-10, 20, 36]}
    page.goto(str(viewer_alone(UNREACHABLE_PACS).base_url.join("/ohif/next")))
    assert page.evaluate(READ_NIFTI, [text, GRID]) == labels.ravel().tolist()
    assert page.evaluate(READ_NIFTI, [text, upside_down]) == labels[::-1].ravel().tolist()


def test_the_page_of_the_next_case_says_why_there_is_none(viewer_alone, page):
    page.goto(str(viewer_alone(UNREACHABLE_PACS).base_url.join("/ohif/next")))
    line = page.locator("#cspine-next[role=alert]")
    line.wait_for()
    assert line.inner_text() == "The server refused with status 404; its log says why."
