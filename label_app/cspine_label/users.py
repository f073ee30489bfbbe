"""Local users: names, hashed passwords and roles in one file; tokens in memory."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cspine.errors import InputError, UsageError
from cspine.whole_files import write_json

ANNOTATOR: Final = "annotator"
ADMIN: Final = "admin"
ROLES: Final = (ANNOTATOR, ADMIN)
TOKEN_S: Final = 12 * 3600.0
PROVEN_S: Final = 600.0
"""How long a password that was right is not hashed again: a viewer sends it with every request."""
MIN_PASSWORD: Final = 10


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: of the user; empty where the server asks nobody who they are.
        role: "annotator", or "admin", who may also train and promote.
    """

    name: str
    role: str

    @property
    def is_admin(self) -> bool:
        """Whether they may train and promote."""
        return self.role == ADMIN


ANYBODY: Final = User("", ADMIN)
"""Without users, who reaches the server may do everything."""


class Users:
    """The users of a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._tokens: dict[str, tuple[User, float]] = {}
        self._proven: dict[str, tuple[User, float]] = {}

    def add(self, name: str, password: str, role: str) -> None:
        """Add a user, or give one another password and role.

        Raises:
            UsageError: an empty name, a short password, or no role.
        """
        if not name or ":" in name:
            raise UsageError("The name of a user is not empty and holds no colon.")
        if len(password) < MIN_PASSWORD:
            raise UsageError(f"A password has at least {MIN_PASSWORD} characters.")
        if role not in ROLES:
            raise UsageError(f"There is no role '{role}'; choose {' or '.join(ROLES)}.")
        users = self._read()
        users[name] = {"password": _hasher().hash(password), "role": role}
        write_json(self._file, users)
        self._file.chmod(0o600)

    def verify(self, name: str, password: str) -> User | None:
        """The user, where name and password are right."""
        key = hashlib.sha256(f"{name}\0{password}".encode()).hexdigest()
        if (found := self._valid(self._proven, key)) is not None:
            return found
        entry = self._read().get(name)
        # A name that is not there takes as long as a wrong password.
        stored = entry["password"] if entry else _nobody()
        if not _hasher().verify(password, stored) or entry is None:
            return None
        user = User(name, str(entry["role"]))
        with self._lock:
            self._proven[key] = (user, time.monotonic() + PROVEN_S)
        return user

    def token_for(self, user: User) -> str:
        """A new token; valid for half a day, or until the server ends."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[token] = (user, time.monotonic() + TOKEN_S)
        return token

    def by_token(self, token: str) -> User | None:
        """Whose token it is, while it is valid."""
        return self._valid(self._tokens, token)

    def _valid(self, known: dict[str, tuple[User, float]], key: str) -> User | None:
        with self._lock:
            user, until = known.get(key, (None, 0.0))
            if user is not None and until < time.monotonic():
                del known[key]
                return None
            return user

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {}
        try:
            content: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"The file of users '{self._file}' cannot be read.") from error
        return content

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody who could log in."""
        return not self._read()


def _hasher() -> Any:
    from pwdlib import PasswordHash

    return PasswordHash.recommended()


_NOBODY: list[str] = []


def _nobody() -> str:
    if not _NOBODY:
        _NOBODY.append(_hasher().hash(secrets.token_urlsafe(16)))
    return _NOBODY[0]
