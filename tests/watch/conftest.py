"""A real PACS (Orthanc) that can be stopped and started, a watcher, and an analysis that takes no time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import OperationalError

from cspine.phantom.dicom_attributes import StudyOptions as PhantomOptions
from cspine.phantom.dicom_attributes import study_uid
from cspine.phantom.dicom_study import write_study
from cspine.settings import models_dir
from cspine.volume import Grid, Volume
from fracture_map.study import StudyOptions
from fracture_map.watch.database import Database, metadata, sqlite_url, studies
from fracture_map.watch.rules import Rules
from fracture_map.watch.service import Watcher, WatchOptions, watch
from fracture_map.watch.settings import Settings, Spool, Timing

FAKE = Path(__file__).parent / "programs" / "fake_analysis.py"
UID_LENGTH = 44
PATIENCE_S = 600.0
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
QUICK = Timing(
    poll_s=0.1,
    sweep_s=0.1,
    quiet_s=0.3,
    incomplete_after_s=0.6,
    lease_s=60.0,
    retry_s=0.2,
    retry_max_s=1.0,
    max_attempts=200,
)


def wait_until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> Any:
    """Ask again and again; the first answer that is true."""
    deadline = time.monotonic() + patience_s
    while not (answer := true()):
        if time.monotonic() > deadline:
            pytest.fail("it did not come true in time")
        time.sleep(0.05)
    return answer


@dataclass(frozen=True)
class Study:
    """A tiny CT."""

    uid: str
    files: tuple[Path, ...]


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """A function that writes the tiny CT of that number; all their UIDs are equally long."""

    def make(seed: int, slices: int = 5) -> Study:
        affine = np.array([[0, 0, 0.75, -20], [0, 0.5, 0, -30], [1.25, 0, 0, 100], [0, 0, 0, 1]], float)
        hu = np.random.default_rng(seed).integers(-1000, 1500, (slices, 24, 32)).astype(np.int16)
        alike = (
            PhantomOptions(patient_name="Doe^Jane", patient_id=f"SECRET-{seed}", seed=1000 * seed + k)
            for k in count()
        )
        options = next(options for options in alike if len(study_uid(options)) == UID_LENGTH)
        folder = tmp_path / f"study-{seed}"
        files = write_study(Volume(Grid(hu.shape, affine), hu), folder, options)
        return Study(str(study_uid(options)), files)

    return make


def _template(sop_class: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality = sop_class, modality
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (UID(f"2.25.{d * 39}") for d in "123")
    ds.PatientID, ds.PatientName = "SECRET", "Doe^Jane"
    ds.SeriesDescription = "AI cervical spine fractures (research use only)"
    ds.ContentDate, ds.ContentTime = "20260101", "000000"
    return ds


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake analysis makes its results from."""
    folder = tmp_path_factory.mktemp("templates")
    _template(SEG, "SEG").save_as(folder / "seg.dcm", enforce_file_format=True)
    report = _template(SR, "SR")
    report.save_as(folder / "sr.dcm", enforce_file_format=True)
    item, series, study = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SR, UID(f"2.25.{'4' * 39}")
    series.ReferencedSOPSequence, study.ReferencedSeriesSequence = [item], [series]
    study.StudyInstanceUID = report.StudyInstanceUID
    report.PredecessorDocumentsSequence = [study]
    report.save_as(folder / "sr-again.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def options(tmp_path: Path, templates: Path, request: pytest.FixtureRequest) -> Callable[..., WatchOptions]:
    """A function that makes the options of a quick watcher with the fake analysis."""

    def make(behaviour: str = "done", *, timing: Timing = QUICK, **given: Any) -> WatchOptions:
        command = (sys.executable, "-I", "-S", str(FAKE), str(templates), behaviour)
        made = WatchOptions(
            dicomweb=request.getfixturevalue("orthanc").dicomweb,
            state=tmp_path / "state",
            study=StudyOptions(Path(), Path(), models_dir(), command=command, timeout_s=600),
            settings=Settings(studies=Rules(max_age_days=None), timing=timing, spool=Spool(0.0)),
            listen=("127.0.0.1", 0),
        )
        return replace(made, **given)

    return make


@contextmanager
def running_watcher(wanted: WatchOptions) -> Iterator[Watcher]:
    """A watcher in threads of this process, for as long as the block lasts."""
    end, watcher = threading.Event(), Watcher(wanted)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            watcher.run(end.is_set)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watcher
    finally:
        end.set()
        thread.join()
        if failures:
            raise failures[0]


@pytest.fixture
def start_process() -> Iterator[Callable[[WatchOptions], multiprocessing.process.BaseProcess]]:
    """A function that starts a watcher as a process of its own, which may be killed."""
    # Copies of a process that has imported everything, so that they begin at once; not of this one, which may
    # run threads of any library by now.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "fracture_map.watch.service"])
    started: list[multiprocessing.process.BaseProcess] = []

    def start(wanted: WatchOptions) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=watch, args=(wanted, bool))  # bool() is False: for ever
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[str | None]:
    """The URL of a PostgreSQL of our own, or None where it is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        yield None
        return
    # It refuses to run as root; Debian's package brings a user for it.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fracture-map-postgres-"))
    if user:
        shutil.chown(folder, user)
    initdb, postgres = (str(programs[-1] / name) for name in ("initdb", "postgres"))
    made = [initdb, "-D", str(folder / "data"), "-U", "watch", "-A", "trust", "--no-sync"]
    subprocess.run(made, user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
    run = [postgres, "-D", str(folder / "data"), "-k", str(folder), "-h", "", "-F"]
    process = subprocess.Popen(run, user=user, stderr=subprocess.DEVNULL, cwd="/")
    wait_until((folder / ".s.PGSQL.5432").exists)
    yield f"postgresql+psycopg://watch@/postgres?host={folder}"
    process.terminate()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(service, running_postgres: str | None) -> str:
    """The URL of an empty database in PostgreSQL."""
    service("postgresql", running_postgres)
    assert running_postgres is not None
    engine = create_engine(running_postgres)
    wait_until(lambda: _connects(engine))
    metadata.drop_all(engine)
    engine.dispose()
    return running_postgres


def _connects(engine: Engine) -> bool:
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty queue, once in each kind of database."""
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "queue.sqlite")
    else:
        url = request.getfixturevalue("postgres")
    made = Database(url)
    yield made
    made.engine.dispose()


@dataclass(frozen=True)
class Site:
    """A PACS, what a watcher beside it is given, and what can be asked of both."""

    orthanc: Any
    make_study: Callable[..., Study]
    options: Callable[..., WatchOptions]
    _queues: dict[str, Database] = field(default_factory=dict)
    running = staticmethod(running_watcher)
    wait_until = staticmethod(wait_until)

    def wait_for(self, wanted: WatchOptions, study: Study, state: str) -> None:
        """Wait until a study is in a state."""
        wait_until(lambda: self.states(wanted).get(study.uid) == state)

    def states(self, wanted: WatchOptions) -> dict[str, str]:
        """The state of every study, by UID."""
        with self._queue(wanted).reading() as connection:
            rows = connection.execute(select(studies.c.study_uid, studies.c.state)).all()
        return {row.study_uid: row.state for row in rows}

    def _queue(self, wanted: WatchOptions) -> Database:
        url = wanted.database or sqlite_url(wanted.state / "queue.sqlite")
        if url not in self._queues:
            self._queues[url] = Database(url)
        return self._queues[url]

    def close(self) -> None:
        for queue in self._queues.values():
            queue.engine.dispose()

    def is_claimed(self, wanted: WatchOptions, uid: str) -> bool:
        """Whether a worker has the study at hand and the analysis is due."""
        with self._queue(wanted).reading() as connection:
            row = connection.execute(select(studies).where(studies.c.study_uid == uid)).one()
        return row.claim is not None and row.state == "ready"

    def reports(self, study: Study) -> list[Dataset]:
        return self.orthanc.reports(study.uid)

    def segmentations(self, study: Study) -> list[Dataset]:
        return self.orthanc.segmentations(study.uid)

    def current_reports(self, study: Study) -> list[Dataset]:
        """The reports that no other one replaces."""
        reports = self.reports(study)
        replaced = {
            item.ReferencedSOPInstanceUID
            for report in reports
            for before in report.get("PredecessorDocumentsSequence") or ()
            for item in before.ReferencedSeriesSequence[0].ReferencedSOPSequence
        }
        return [report for report in reports if report.SOPInstanceUID not in replaced]


@pytest.fixture
def site(
    orthanc: Any, make_study: Callable[..., Study], options: Callable[..., WatchOptions]
) -> Iterator[Site]:
    """A PACS and everything that a watcher beside it needs."""
    made = Site(orthanc, make_study, options)
    yield made
    made.close()


@pytest.fixture
def with_settings() -> Callable[..., WatchOptions]:
    """A function that changes the times or the rules of a watcher's options."""

    def change(wanted: WatchOptions, *, rules: dict[str, Any] | None = None, **timing: float) -> WatchOptions:
        settings = replace(
            wanted.settings,
            studies=replace(wanted.settings.studies, **(rules or {})),
            timing=replace(wanted.settings.timing, **timing),
        )
        return replace(wanted, settings=settings)

    return change
