"""The templates of docs/how-to run the image as it is meant to be run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import cspine
from cspine.errors import CspineError
from cspine.settings import TIMEOUT_S
from fracture_map.map import layout

TEMPLATES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "map"
JOB, POLICY = yaml.safe_load_all((TEMPLATES / "kubernetes-job.yaml").read_text())
ARGO = yaml.safe_load((TEMPLATES / "argo-workflow-template.yaml").read_text())
BY_DOCKER = json.loads((TEMPLATES / "clinical-workflow-docker.json").read_text())
BY_ARGO = json.loads((TEMPLATES / "clinical-workflow-argo.json").read_text())
IMAGE = f"localhost/fracture-map:{cspine.__version__}"
POD = JOB["spec"]["template"]["spec"]
STEP = ARGO["spec"]["templates"][0]


def inside(path: str) -> str:
    return path.rstrip("/")


@pytest.mark.parametrize("container", [POD["containers"][0], STEP["container"]], ids=["job", "argo"])
def test_containers_have_nothing_that_they_do_not_need(container):
    assert container["image"] == IMAGE
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"] == "4Gi"
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("pod", [POD, ARGO["spec"]], ids=["job", "argo"])
def test_pods_are_not_root_s_and_end_after_the_application_did(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    deadline = pod.get("activeDeadlineSeconds") or JOB["spec"]["activeDeadlineSeconds"]
    assert deadline > TIMEOUT_S


def test_the_job_mounts_one_study_read_only_and_its_output_beside_it():
    mounts = {mount["mountPath"]: mount for mount in POD["containers"][0]["volumeMounts"]}
    assert mounts[inside(layout.INPUT)]["readOnly"] is True
    assert not mounts[inside(layout.OUTPUT)].get("readOnly")


def test_the_job_is_not_repeated_where_it_would_fail_again():
    (codes,) = [
        rule["onExitCodes"] for rule in JOB["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    ]
    again = {"CspineError", "TimeLimitError", "TerminatedError"}
    final = {kind.exit_code for kind in kinds(CspineError) if kind.__name__ not in again}
    assert set(codes["values"]) == final
    assert codes["containerName"] == POD["containers"][0]["name"]


def kinds(kind: type[CspineError]) -> Iterator[type[CspineError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == CspineError.__module__:
            yield from kinds(below)


def test_the_policy_covers_the_job_and_lets_nothing_through():
    labels = JOB["spec"]["template"]["metadata"]["labels"]
    assert POLICY["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(POLICY["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & POLICY["spec"].keys()


def tasks(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["id"]: task for task in workflow["tasks"]}


def test_argo_and_its_clinical_workflow_call_the_artifacts_alike():
    analyse = tasks(BY_ARGO)["analyse"]
    assert analyse["args"]["workflow_template_name"] == ARGO["metadata"]["name"]
    for way in ("inputs", "outputs"):
        (given,) = STEP[way]["artifacts"]
        (named,) = analyse["artifacts"][way.removesuffix("s")]
        assert given["name"] == named["name"]
        assert given["path"] == inside(layout.INPUT if way == "inputs" else layout.OUTPUT)


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 0), (4, 0), (1, 1), (6, 6), (124, 124)])
def test_argo_counts_a_study_that_cannot_be_analysed_as_done(tmp_path, code, expected):
    entry = tmp_path / "tools"
    entry.write_text(f"#!/bin/sh\nexit {code}\n")
    entry.chmod(0o755)
    script = STEP["container"]["args"][0].replace(layout.ENTRY, str(entry))
    assert subprocess.run([*STEP["container"]["command"], script], check=False).returncode == expected


def test_the_docker_plug_in_sets_the_paths_of_the_image_and_waits_longer_than_the_application():
    arguments = tasks(BY_DOCKER)["analyse"]["args"]
    assert arguments["container_image"] == IMAGE
    for name in ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"):
        assert arguments[f"env_{name}"] == layout.ENVIRONMENT[name]
    assert arguments["command"] == layout.COMMAND
    assert int(arguments["task_timeout_minutes"]) * 60 > TIMEOUT_S


@pytest.mark.parametrize("workflow", [BY_DOCKER, BY_ARGO], ids=["docker", "argo"])
def test_clinical_workflows_export_what_was_analysed_to_a_destination_that_they_name(workflow):
    assert len(workflow["name"]) <= 15  # the Workflow Manager takes no more
    found = tasks(workflow)
    for task in found.values():
        assert {next_["name"] for next_ in task.get("task_destinations", ())} <= found.keys()
    export = found["export"]
    assert {to["name"] for to in export["export_destinations"]} <= set(
        workflow["informatics_gateway"]["export_destinations"]
    )
    (output,) = found["analyse"]["artifacts"]["output"]
    (exported,) = export["artifacts"]["input"]
    assert exported["value"] == f"{{{{ context.executions.analyse.artifacts.{output['name']} }}}}"
