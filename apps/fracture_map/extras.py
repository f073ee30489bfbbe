"""Parts of the software that need packages which not every installation has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cspine.errors import UsageError


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Turn the absence of a package, when it is imported in the block, into a sentence that says what to do.

    Args:
        extra: the optional dependencies (of pyproject.toml) that bring it.

    Raises:
        UsageError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        raise UsageError(
            f"This command needs '{package}', which is not installed; "
            f"install it with pip install 'fracture-map[{extra}]'."
        ) from None
