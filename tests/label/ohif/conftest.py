"""Chromium, and the viewer's routes without the rest of the label server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-label" / "bin" / "python"
VIEWER_ALONE = Path(__file__).parent / "programs" / "viewer_alone.py"
START_S = 240.0
PAGE_MS = 240_000
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
            command = [str(PYTHON), str(VIEWER_ALONE), str(port), *dicomweb_url]
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
def chromium(service) -> str:
    """The path of Chromium."""
    program = shutil.which("chromium")
    service("chromium", program)
    return program or ""


@pytest.fixture
def page(chromium: str) -> Iterator[Any]:
    """A page of Chromium with WebGL in software; it says yes to every question."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(BROWSER_FLAGS))
        shown = browser.new_context(viewport={"width": 1500, "height": 900}).new_page()
        shown.set_default_timeout(PAGE_MS)
        shown.on("dialog", lambda dialog: dialog.accept())
        yield shown
        browser.close()
