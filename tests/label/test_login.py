"""Users, and where the server listens."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # a server starts in ten seconds, on a busy machine in minutes


PUBLIC = "https://labels.example"


@pytest.fixture(scope="module")
def with_users(run_server, nifti_folder, tmp_path_factory):
    made: list = []

    def serve(python: Path):
        if not made:
            file = tmp_path_factory.mktemp("users") / "users.json"
            for name, role in (("ann", "annotator"), ("ada", "admin")):
                command = [
                    python,
                    "-m",
                    "cspine_label.cli",
                    "add-user",
                    name,
                    "--users",
                    file,
                    "--role",
                    role,
                ]
                subprocess.run(command, input=b"correct horse battery\n", check=True, timeout=120)
            made.extend((run_server(nifti_folder(2), "--users", str(file), "--public-url", PUBLIC), file))
        return made

    return serve


@pytest.fixture
def server(label_environment, with_users):
    return with_users(Path(__file__).parents[2] / ".venv-label" / "bin" / "python")[0]


@pytest.fixture
def users_file(server, with_users) -> Path:
    return with_users(Path())[1]


def test_without_a_login_nothing_but_the_login_is_answered(server):
    assert server.http.get("/auth/").json()["enabled"] is True
    for path in (
        "/info/",
        "/datastore/",
        "/datastore/image?image=case0",
        "/ohif/",
        "/history",
        "/openapi.json",
    ):
        assert server.http.get(path).status_code == 401, path
    assert server.http.put("/datastore/label?image=case0").status_code == 401


def test_slicer_logs_in_by_token(server, slicer):
    client = slicer(server)
    assert client.auth_enabled()
    with pytest.raises(slicer.error, match="401"):
        client.auth_token("ann", "wrong horse battery")
    with pytest.raises(slicer.error, match="401"):
        client.info()
    client.update_auth(client.auth_token("ann", "correct horse battery"))
    assert client.auth_valid_token()
    assert client.next_sample("first", {})["id"] == "case0"
    assert server.http.get("/history", auth=("ann", "correct horse battery")).json()[-1]["who"] == "ann"


def test_a_browser_logs_in_by_name_and_password(server):
    refused = server.http.get("/info/")
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert server.http.get("/info/", auth=("ann", "correct horse battery")).status_code == 200
    assert server.http.get("/info/", auth=("nobody", "correct horse battery")).status_code == 401


def test_a_made_up_token_is_refused(server):
    answer = server.http.get("/info/", headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
    assert answer.status_code == 401


def test_only_an_admin_trains_and_promotes(server):
    ask = lambda who: server.http.post(  # noqa: E731
        "/model/promote", params={"candidate": "released"}, auth=(who, "correct horse battery")
    )
    assert ask("ann").status_code == 403
    assert ask("ada").status_code == 200


def test_behind_a_proxy_pages_of_the_public_address_are_own_pages(server):
    ask = lambda host, origin: server.http.post(  # noqa: E731
        "/activelearning/first",
        json={},
        headers={"Host": host, "Origin": origin},
        auth=("ann", "correct horse battery"),
    )
    assert ask("labels.example", PUBLIC).status_code == 200
    assert ask("localhost", PUBLIC).status_code == 200
    assert ask("labels.example", "https://evil.example").status_code == 403
    assert ask("evil.example", "https://evil.example").status_code == 403


def test_passwords_are_not_kept_and_the_file_is_private(users_file):
    text = users_file.read_text()
    assert "correct horse" not in text
    assert "$argon2id$" in text
    assert users_file.stat().st_mode & 0o077 == 0


def test_without_users_it_does_not_listen_beyond_this_machine(label_environment, nifti_folder):
    python = Path(__file__).parents[2] / ".venv-label" / "bin" / "python"
    command = [python, "-m", "cspine_label.cli", "serve", "--studies", nifti_folder(1), "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 2
    assert "add users" in ended.stderr
