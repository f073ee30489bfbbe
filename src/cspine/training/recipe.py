"""Running a bundle's own train or evaluate config, with what the command line sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspine.cuda_runtime import preload
from cspine.errors import CspineError, ModelError, UsageError
from cspine.models.bundle import read_json


def run_config(bundle: Path, config: str, overrides: Mapping[str, Any]) -> None:
    """Run ``configs/<config>.json`` of a bundle, as ``python -m monai.bundle run`` would.

    Args:
        bundle: folder of the bundle.
        config: "train" or "evaluate".
        overrides: values for top-level keys of the config; None leaves the config's own.

    Raises:
        UsageError: the config has no such key.
        ModelError: the config is missing or malformed.
    """
    if not bundle.is_dir():
        raise UsageError(f"There is no bundle '{bundle}': name the folder of a bundle.")
    file = Path("configs") / f"{config}.json"
    content = read_json(bundle, file)
    given = {key: value for key, value in overrides.items() if value is not None}
    unknown = sorted(given.keys() - content.keys())
    if unknown:
        raise UsageError(f"Bundle {bundle.name}: {file} has no setting '{unknown[0]}'.")
    content |= {"bundle_root": str(bundle), **given}
    preload()
    from monai.bundle import ConfigParser

    try:
        ConfigParser(content).get_parsed_content("run")
    except CspineError:
        raise
    except Exception as error:
        if deliberate := _deliberate(error):
            raise deliberate from error
        raise ModelError(f"Bundle {bundle.name}: {file} cannot be run: {_root(error)}") from error


def _root(error: BaseException) -> BaseException:
    """The error at the bottom, without what MONAI wrapped around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _deliberate(error: BaseException | None) -> CspineError | None:
    """The deliberate error that MONAI wrapped into one of its own."""
    while error is not None:
        if isinstance(error, CspineError):
            return error
        error = error.__cause__
    return None
