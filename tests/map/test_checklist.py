"""map-check finds every way in which an image is not a MAP, and says so in one sentence."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from io import StringIO

import pytest

from cspine.errors import InputError
from fracture_map.cli import main
from fracture_map.map import layout
from fracture_map.map.checklist import check, read_image, verdicts
from fracture_map.map.image import ImageConfig, read_root

BUNDLE = f"{layout.MODEL_ROOT}cspine_ct_segmentation"


def faults(root) -> list[str]:
    image = read_root(root.folder, ImageConfig.of(root.config))
    return [fault for verdict in verdicts(image) for fault in verdict.faults]


def test_what_the_generator_and_the_dockerfile_make_breaks_no_line(map_root):
    assert faults(map_root) == []


def test_without_its_configuration_a_root_folder_is_checked_as_far_as_it_goes(map_root, capsys):
    assert main(["map-check", str(map_root.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    left = [line for line in lines if line.startswith("- ")]
    assert lines[-1].startswith(f"{len(left)} lines need the configuration of the image")
    assert len(left) < len(lines) / 2


def test_with_its_configuration_every_line_is_checked(map_root, tmp_path, capsys):
    config = map_root.write_config(tmp_path / "config.json")
    assert main(["map-check", str(map_root.folder), "--config", str(config)]) == 0
    assert {line[:2] for line in capsys.readouterr().out.splitlines()} == {"ok"}


def drop(path: str) -> Callable:
    return lambda root: root.path(path).unlink()


def edit(path: str, change: Callable) -> Callable:
    return lambda root: root.edit_json(path, change)


def configure(change: Callable) -> Callable:
    return lambda root: change(root.config["Config"])


def replace(path: str, old: str, new: str) -> Callable:
    def mutate(root) -> None:
        text = root.path(path).read_text()
        assert old in text
        root.path(path).write_text(text.replace(old, new))

    return mutate


MUTATIONS = {
    "of another system": (lambda root: root.config.update(Os="windows"), "for windows/amd64"),
    "entry point": (configure(lambda c: c.update(Entrypoint=["/bin/sh"])), r"entry point is \['/bin/sh'\]"),
    "arguments": (configure(lambda c: c.update(Cmd=["--help"])), r"the arguments \['--help'\]"),
    "no script": (drop(layout.ENTRY), "no entry script"),
    "script not executable": (lambda root: root.path(layout.ENTRY).chmod(0o744), "Not every user may run"),
    "exit code swallowed": (
        replace(layout.ENTRY, "exec python3 -m fracture_map", "python3 -m fracture_map"),
        "exit code is not the container's",
    ),
    "no show": (replace(layout.ENTRY, "show)", "display)"), "no command 'show'"),
    "no extract": (replace(layout.ENTRY, "extract)", "unpack)"), "no command 'extract'"),
    "no export": (replace(layout.ENTRY, layout.EXPORT, "/mnt"), "copies nothing into"),
    "no title": (configure(lambda c: c["Labels"].pop(layout.LABEL_TITLE)), "image.title is missing"),
    "label of another version": (
        configure(lambda c: c["Labels"].update({layout.LABEL_VERSION: "9.9.9"})),
        "'9.9.9' and app.json '0",
    ),
    "no app.json": (drop(layout.APP_JSON), "no /etc/holoscan/app.json"),
    "no JSON": (replace(layout.APP_JSON, "{", "["), "no /etc/holoscan/app.json"),
    "no type": (edit(layout.APP_JSON, lambda d: d.pop("type")), "'type' is a required property"),
    "wrong type": (edit(layout.APP_JSON, lambda d: d.update(type="app")), "app.json at type: 'app'"),
    "no command": (edit(layout.APP_JSON, lambda d: d.update(command="")), "app.json at command"),
    "command as a list": (edit(layout.APP_JSON, lambda d: d.update(command=["x"])), "app.json at command"),
    "no formats": (edit(layout.APP_JSON, lambda d: d["input"].update(formats=[])), "at input.formats"),
    "relative path": (edit(layout.APP_JSON, lambda d: d["output"].update(path="output/")), "at output.path"),
    "no semantic version": (edit(layout.APP_JSON, lambda d: d.update(version="1.0")), "app.json at version"),
    "probe without command": (
        edit(layout.APP_JSON, lambda d: d["liveness"].pop("command")),
        "at liveness: 'command' is a required property",
    ),
    "variable missing": (
        edit(layout.APP_JSON, lambda d: d["environment"].pop("HOLOSCAN_LOGS")),
        "app.json sets HOLOSCAN_LOGS to None",
    ),
    "variable missing in the image": (
        configure(lambda c: c["Env"].remove("HOLOSCAN_DOCS=/opt/holoscan/docs/")),
        "image sets HOLOSCAN_DOCS to None",
    ),
    "no configuration file": (drop(layout.CONFIG), "no file /var/holoscan/app.yaml"),
    "no output folder": (lambda root: root.path(layout.OUTPUT).rmdir(), "no folder /var/holoscan/output/"),
    "models as an object": (
        edit(layout.PKG_JSON, lambda d: d.update(models={"a": "b"})),
        "pkg.json at models: .* is not of type 'array'",
    ),
    "memory in bytes": (
        edit(layout.PKG_JSON, lambda d: d["resources"].update(memory="4000000000")),
        "at resources.memory",
    ),
    "versions apart": (edit(layout.PKG_JSON, lambda d: d.update(version="9.9.9")), "must be equal"),
    "no code": (drop(f"{layout.APP_ROOT}fracture_map/__main__.py"), "code is not in"),
    "model elsewhere": (
        edit(layout.PKG_JSON, lambda d: d["models"][0].update(path="x")),
        "no folder /opt/holoscan/models/x",
    ),
    "no licence": (drop(f"{layout.DOCS}LICENSE"), "no LICENSE"),
    "another Debian": (replace("/usr/lib/os-release", '"12"', '"11"'), "not Debian 12"),
    "another Python": (replace(f"{layout.VENV}/pyvenv.cfg", "3.11", "3.12"), "not 3.11"),
    "root": (configure(lambda c: c.update(User="")), "runs as user ''"),
    "user by name": (configure(lambda c: c.update(User="holoscan")), "runs as user 'holoscan'"),
    "user 0": (configure(lambda c: c.update(User="0:0")), "runs as user '0:0'"),
    "only for its owner": (lambda root: root.path(layout.PKG_JSON).chmod(0o640), "Not every user can read"),
    "a closed folder": (lambda root: root.path(BUNDLE).chmod(0o700), "Not every user can read"),
    "open to all": (
        lambda root: root.path(layout.PKG_JSON).chmod(0o666),
        "can change /etc/holoscan/pkg.json",
    ),
    "home elsewhere": (configure(lambda c: c["Env"].remove("HOME=/tmp")), "HOME does not lie in /tmp"),
    "a port": (configure(lambda c: c.update(ExposedPorts={"80/tcp": {}})), "exposes network ports"),
    "other weights": (
        lambda root: root.path(f"{BUNDLE}/models/model.pt").write_bytes(b"x"),
        "weights of cspine_ct_segmentation are not",
    ),
    "no metadata": (drop(f"{BUNDLE}/configs/metadata.json"), "weights of cspine_ct_segmentation are not"),
    "a library unlisted": (replace(layout.SBOM, '"torch"', '"flashlight"'), "does not list torch"),
    "no Debian packages": (drop(layout.DEBIAN_SBOM), "does not list the Debian packages"),
    "no licences": (drop(layout.THIRD_PARTY), "licences of the libraries"),
    "no licence of weights": (drop(f"{BUNDLE}/LICENSE"), "cspine_ct_segmentation comes without LICENSE"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_image_is_found_out(map_root, name):
    mutate, sentence = MUTATIONS[name]
    mutate(map_root)
    found = faults(map_root)
    assert all(fault.endswith(".") and "\n" not in fault for fault in found)
    assert any(re.search(sentence, fault) for fault in found), found


def test_a_broken_image_is_exit_code_4_and_every_fault_is_printed(map_root, capsys):
    map_root.path(layout.PKG_JSON).unlink()
    assert main(["map-check", str(map_root.folder)]) == 4
    printed = capsys.readouterr()
    assert "FAIL  pkg.json follows the specification\n      There is no /etc/holoscan/pkg.json" in printed.out
    assert "breaks 3 of" in printed.err


def test_an_oci_archive_is_read_like_the_root_folder(map_root, archives, layer_of):
    archive = archives.write(map_root.config, layer_of(map_root.folder))
    out = StringIO()
    check(archive, None, out)
    assert {line[:2] for line in out.getvalue().splitlines()} == {"ok"}


def test_a_later_layer_takes_away_what_an_earlier_one_brought(map_root, archives, layer_of):
    gone = layer_of(None, "etc/holoscan/.wh.app.json", "opt/holoscan/docs/.wh..wh..opq")
    archive = archives.write(map_root.config, layer_of(map_root.folder), gone)
    image = read_image(archive, None)
    assert image.entry(layout.APP_JSON) is None
    assert image.entry(layout.PKG_JSON) is not None
    assert image.is_folder(layout.DOCS)
    assert list(image.under(layout.DOCS)) == []


def test_what_is_no_archive_is_refused_in_one_sentence(map_root, tmp_path, archives):
    (tmp_path / "text").write_text("x" * 2000)
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(map_root.path(layout.APP_JSON), "app.json")
    zstd = archives.write(map_root.config, b"\x28\xb5\x2f\xfd" + b"\0" * 600, name="zstd.tar")
    for source in (tmp_path / "text", tmp_path / "other.tar", zstd, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"archive"):
            read_image(source, None)


def test_a_file_that_is_no_configuration_is_refused(map_root, tmp_path):
    for content in ("[]", "{", json.dumps({"a": 1})):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match="docker image inspect"):
            read_image(map_root.folder, tmp_path / "config.json")
