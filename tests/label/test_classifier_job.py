from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cspine.models.bundle import load_bundle
from cspine_label.classifier_job import TRAIN_CONFIG, recipe_of
from cspine_label.job import Job, TrainingPlan

NAME = "cspine_ct_fracture_classification"
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@pytest.fixture
def reference(tmp_path):
    """A bundle in use whose own training sees every crop twice and cut off in dense bone."""
    shutil.copytree(BUNDLES / NAME, tmp_path / NAME)
    file = tmp_path / NAME / TRAIN_CONFIG
    config = json.loads(file.read_text())
    config["recipe"]["augmentation"] |= {"ghost": 1.0, "flat": 0.75, "slices": [1.0, 2.0]}
    file.write_text(json.dumps(config))
    return load_bundle(tmp_path, NAME)


def test_a_candidate_sees_crops_as_the_bundle_in_use_did_in_its_own_training(reference):
    job = Job(NAME, str(reference.path.parent), TrainingPlan(), (), ())
    seen = recipe_of(job, reference, studies=40).augmentation
    assert (seen.ghost, seen.flat, tuple(seen.slices)) == (1.0, 0.75, (1.0, 2.0))
    assert seen.mixup == 0.0
