"""Fixtures that every test may use: real data, outside services."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def real_data_root() -> Path:
    return Path(os.environ.get("CSPINE_REAL_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def real_data(request: pytest.FixtureRequest):
    """A function from a folder's name to its path; skips, by name, where that folder is absent."""

    def find(name: str) -> Path:
        path = real_data_root() / name
        if not path.exists():
            pytest.skip(f"real data '{name}' is not here (set CSPINE_REAL_DATA)")
        return path

    return find


def need_service(name: str, found: object) -> None:
    """Skip without the service `name`, or fail where services are required (CSPINE_REQUIRE_SERVICES=1)."""
    if found:
        return
    message = f"service '{name}' is not installed (tests/install-services.sh installs it)"
    if os.environ.get("CSPINE_REQUIRE_SERVICES") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def service():
    """The function `need_service`."""
    return need_service
