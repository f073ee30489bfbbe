"""Chromium, the viewer's routes without the rest of the label server, and an annotator at work in OHIF."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from cspine.anatomy import Vertebra
from cspine.phantom.dicom_attributes import StudyOptions
from cspine.phantom.dicom_study import write_study
from cspine.volume import Grid

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-label" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "programs"
START_S = 240.0
PAGE_MS = 240_000
DOT_TRIES, DOT_WAIT_MS = 60, 500
C4 = Vertebra.C4
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What was started for this module; killed in the end."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def viewers() -> dict[tuple[str, ...], httpx.Client]:
    """Clients of the viewers that run already, by the address of their PACS."""
    return {}


@pytest.fixture
def viewer_alone(
    label_environment: None,
    processes: list[subprocess.Popen[bytes]],
    viewers: dict[tuple[str, ...], httpx.Client],
) -> Callable[..., httpx.Client]:
    """A function from the address of a PACS, or nothing, to a client of the viewer's routes alone."""

    def serve(*dicomweb_url: str) -> httpx.Client:
        if dicomweb_url not in viewers:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
            command = [str(PYTHON), str(PROGRAMS / "viewer_alone.py"), str(port), *dicomweb_url]
            processes.append(subprocess.Popen(command))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
            _wait_for(client, processes[-1])
            viewers[dicomweb_url] = client
        return viewers[dicomweb_url]

    return serve


def _wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            client.get("/ohif/")
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    pytest.fail("the viewer's routes did not start")


@pytest.fixture
def chromium(service) -> None:
    """Skips, or fails, without Chromium."""
    service("chromium", shutil.which("chromium"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium with WebGL in software; no longer than a module, for asyncio cannot run beside it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        launched = playwright.chromium.launch(executable_path=program, args=list(BROWSER_FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def page(chromium: None, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page without memory of others; it says yes to every question."""
    context = request.getfixturevalue("browser").new_context(viewport={"width": 1500, "height": 900})
    shown = context.new_page()
    shown.set_default_timeout(PAGE_MS)
    shown.on("dialog", lambda dialog: dialog.accept())
    yield shown
    context.close()


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

    def series(self, number: int) -> str:
        """The series that the viewer's first, or a later, address opens."""
        return parse_qs(urlsplit(self.addresses[number]).query)["SeriesInstanceUIDs"][0]


@pytest.fixture(scope="session")
def visits() -> list[Visit]:
    return []


@pytest.fixture
def visit(visits, request, neck, tmp_path) -> Visit:
    """An annotator's visit, made once for all tests."""
    if not visits:
        server, orthanc, page = map(request.getfixturevalue, ("pacs_server", "orthanc", "page"))
        for seed in (21, 22):
            options = StudyOptions(patient_id=f"OHIF-{seed}", seed=seed, transfer_syntax=JPEGLSLossless)
            orthanc.add(*write_study(neck.volume, tmp_path / str(seed), options))
        visits.append(Annotator(page, server, orthanc).work())
    return visits[0]


class Annotator:
    """Works on a case as a person would: with mouse and keys."""

    def __init__(self, page: Any, server: Any, orthanc: Any) -> None:
        self.page, self.server, self.orthanc, self.seen = page, server, orthanc, Visit()
        page.on("request", self._note_request)

    def work(self) -> Visit:
        self.connect(lambda: self.page.goto(f"{self.server.url}/ohif/next"))
        self.seen.styles = dict(self.ask("styles"))
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
        self.draw_a_dot()
        self.page.click("#cspine-submit")
        self.seen.stray = self.status("stray stroke")
        self.picture("ohif-refused.png", clip={"x": 1218, "y": 0, "width": 282, "height": 600})
        for _ in range(4):
            self.page.keyboard.press("]")
        self.seen.radii += (self.page.locator("#cspine-radius").inner_text(),)

    def draw_a_dot(self) -> None:
        """In the middle of the axial view; again as long as the viewer, still loading, does not take it."""
        x, y = self.middle_of_axial()
        for _ in range(DOT_TRIES):
            self.drag((x, y), (x + 1, y))
            if self.drawn().labels.any():
                return
            self.page.wait_for_timeout(DOT_WAIT_MS)
        pytest.fail("the viewer takes no stroke")

    def run(self) -> None:
        self.page.click("#cspine-run")
        self.seen.segmented = self.status("Segmented")
        self.seen.before = self.drawn()
        self.seen.range_hu = self.ask("range_hu")

    def paint(self) -> None:
        for _ in range(3):
            self.page.keyboard.press("n")
        x, y = self.ask("center_on_page", int(C4))
        self.drag((x, y + 40), (x + 25, y + 45))
        self.seen.after = self.drawn()

    def judge(self) -> None:
        self.page.keyboard.press("d")
        x, y = self.ask("center_on_page", int(C4))
        self.drag((x - 20, y - 15), (x + 20, y + 10))
        self.page.locator(".cspine-level[aria-label=C4] .cspine-marks").get_by_text("▭").wait_for()
        self.page.get_by_role("group", name="C5").get_by_role("button", name="Absent").click()
        self.picture("ohif-annotating.png")

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
            self.seen.stored = http.get("/fractures", params={"image": self.seen.series(0)}).json()

    def picture(self, name: str, **options: Any) -> None:
        if folder := os.environ.get("CSPINE_PICTURES"):
            self.page.screenshot(path=Path(folder) / name, **options)

    def ask(self, program: str, argument: Any = None) -> Any:
        """What a program in the page answers."""
        return self.page.evaluate((PROGRAMS / f"{program}.js").read_text(), argument)

    def status(self, text: str) -> str:
        line = self.page.locator(".cspine-status", has_text=text)
        line.wait_for()
        return line.inner_text()

    def drawn(self) -> Drawn:
        found = self.ask("labels")
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
