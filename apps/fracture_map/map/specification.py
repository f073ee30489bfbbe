"""The lines of the MAP specification 1.0."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fracture_map.map import layout
from fracture_map.map.image import Image, Kind
from fracture_map.map.line import Line, config_of

_FILES: Final = frozenset({layout.CONFIG, layout.APP_JSON, layout.PKG_JSON})


def _one_linux_image(image: Image) -> Iterator[str]:
    config = config_of(image)
    if (config.os, config.architecture) not in (("linux", "amd64"), ("linux", "arm64")):
        yield f"The image is for {config.os}/{config.architecture}; build it for linux/amd64."


def _runs_without_arguments(image: Image) -> Iterator[str]:
    config = config_of(image)
    if config.entrypoint != (layout.ENTRY,):
        yield f"The entry point is {list(config.entrypoint)}; make it ['{layout.ENTRY}']."
    if config.command:
        yield f"The image gives the entry point the arguments {list(config.command)}; give it none."


def _hands_the_exit_code_on(image: Image) -> Iterator[str]:
    script, entry = image.text(layout.ENTRY), image.entry(layout.ENTRY)
    if script is None or entry is None:
        yield f"There is no entry script {layout.ENTRY}; put one there."
        return
    if entry.mode & 0o111 != 0o111:
        yield f"Not every user may run {layout.ENTRY}; give it mode 755."
    command = _field(image, layout.APP_JSON, "command")
    if not re.search(rf"\bexec {re.escape(str(command))} \"\$@\"", script):
        yield (
            f"{layout.ENTRY} does not `exec` app.json's command with its arguments, so that the command's "
            "exit code is not the container's."
        )


def _can_be_printed_and_copied(image: Image) -> Iterator[str]:
    script = image.text(layout.ENTRY) or ""
    for command in ("show", "extract"):
        if not re.search(rf"^\s*{command}\)", script, re.MULTILINE):
            yield f"{layout.ENTRY} has no command '{command}'."
    if layout.EXPORT not in script:
        yield f"{layout.ENTRY} copies nothing into {layout.EXPORT}."


def _labels(image: Image) -> Iterator[str]:
    labels = config_of(image).labels
    if not labels.get(layout.LABEL_TITLE, "").strip():
        yield f"The label {layout.LABEL_TITLE} is missing."
    found, expected = labels.get(layout.LABEL_VERSION), _field(image, layout.APP_JSON, "version")
    if found != expected:
        yield f"The label {layout.LABEL_VERSION} says {found!r} and app.json {expected!r}; make them equal."


def _app_json(image: Image) -> Iterator[str]:
    yield from _against_schema(image, layout.APP_JSON, "app.schema.json")


def _variables_in_app_json(image: Image) -> Iterator[str]:
    given = _field(image, layout.APP_JSON, "environment")
    for name, value in layout.ENVIRONMENT.items():
        found = given.get(name) if isinstance(given, dict) else None
        if found != value:
            yield f"app.json sets {name} to {found!r} instead of '{value}'."


def _variables_in_image(image: Image) -> Iterator[str]:
    environment = config_of(image).environment
    for name, value in layout.ENVIRONMENT.items():
        if environment.get(name) != value:
            yield f"The image sets {name} to {environment.get(name)!r} instead of '{value}'."


def _paths_are_there(image: Image) -> Iterator[str]:
    for name, path in layout.ENVIRONMENT.items():
        entry, kind = image.entry(path), Kind.FILE if path in _FILES else Kind.FOLDER
        if entry is None or entry.kind is not kind:
            yield f"There is no {kind.name.lower()} {path}, which {name} names."


def _pkg_json(image: Image) -> Iterator[str]:
    yield from _against_schema(image, layout.PKG_JSON, "pkg.schema.json")


def _one_version(image: Image) -> Iterator[str]:
    app, package = (_field(image, path, "version") for path in (layout.APP_JSON, layout.PKG_JSON))
    if app != package:
        yield f"app.json is of version {app!r} and pkg.json of {package!r}; they must be equal."


def _code(image: Image) -> Iterator[str]:
    if image.text(f"{layout.APP_ROOT}fracture_map/__main__.py") is None:
        yield f"The application's code is not in {layout.APP_ROOT}."


def _models(image: Image) -> Iterator[str]:
    listed = _field(image, layout.PKG_JSON, "models")
    for model in listed if isinstance(listed, list) else ():
        if isinstance(model, dict) and not image.is_folder(_model_folder(model)):
            yield f"There is no folder {_model_folder(model)}, where pkg.json says that a model is."


def _model_folder(model: dict[str, Any]) -> str:
    return posixpath.join(layout.MODEL_ROOT, str(model.get("path") or model.get("name")))


def _documents(image: Image) -> Iterator[str]:
    for name in ("README.md", "LICENSE"):
        if not image.text(layout.DOCS + name):
            yield f"There is no {name} in {layout.DOCS}."


def _field(image: Image, path: str, key: str) -> Any:
    document = image.json(path)
    return document.get(key) if isinstance(document, dict) else None


def _against_schema(image: Image, path: str, schema: str) -> Iterator[str]:
    import jsonschema

    document = image.json(path)
    if document is None:
        yield f"There is no {path} with JSON in it."
        return
    for fault in jsonschema.Draft202012Validator(_schema(schema)).iter_errors(document):
        place = ".".join(map(str, fault.absolute_path))
        yield f"{posixpath.basename(path)}{f' at {place}' if place else ''}: {fault.message}."


@cache
def _schema(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files("fracture_map.map").joinpath(name).read_text("utf-8"))
    return content


SPECIFICATION: Final = (
    Line("one OCI image, for Linux", _one_linux_image, needs_config=True),
    Line("runs the application when it is given no arguments", _runs_without_arguments, needs_config=True),
    Line("runs app.json's command and hands its exit code on", _hands_the_exit_code_on),
    Line("prints and copies its manifests", _can_be_printed_and_copied),
    Line("labels for title and version", _labels, needs_config=True),
    Line("app.json follows the specification", _app_json),
    Line("app.json sets the nine variables", _variables_in_app_json),
    Line("the image sets the nine variables alike", _variables_in_image, needs_config=True),
    Line("what the variables name is there", _paths_are_there),
    Line("pkg.json follows the specification", _pkg_json),
    Line("both manifests are of one version", _one_version),
    Line("code in /opt/holoscan/app", _code),
    Line("each model in its folder under /opt/holoscan/models", _models),
    Line("documents and licence in /opt/holoscan/docs", _documents),
)
