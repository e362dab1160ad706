"""Settings come from the environment, and only through these functions.

Each call declares a variable: its name, default and meaning are kept in DECLARED, which the tests hold against
``.env.example`` and docs/configuration.md. A wrong value names the variable and what is allowed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragplat.errors import BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One environment variable that Ragplat reads."""

    name: str
    default: str
    meaning: str
    secret: bool = False


DECLARED: dict[str, Declared] = {}


def _read(name: str, default: str, meaning: str, *, secret: bool = False) -> str:
    DECLARED[name] = Declared(name=name, default=default, meaning=meaning, secret=secret)
    value = os.environ.get(name, "").strip()
    return value or default


def envstr(name: str, default: str, meaning: str, *, choices: Sequence[str] = ()) -> str:
    """A text setting; with ``choices``, one of them. Raises BadSetting otherwise."""
    value = _read(name, default, meaning)
    if choices and value not in choices:
        raise BadSetting(f'{name} is "{value}". Allowed: {", ".join(choices)}.')
    return value


def envint(name: str, default: int, meaning: str, *, low: int, high: int) -> int:
    """A whole number between ``low`` and ``high``. Raises BadSetting otherwise."""
    value = _read(name, str(default), meaning)
    try:
        number = int(value)
    except ValueError:
        raise BadSetting(f'{name} is "{value}". Allowed: a whole number from {low} to {high}.') from None
    if not low <= number <= high:
        raise BadSetting(f"{name} is {number}. Allowed: a whole number from {low} to {high}.")
    return number


def envbool(name: str, default: bool, meaning: str) -> bool:
    """Yes or no. Raises BadSetting for anything but true, false, yes, no, on, off, 1 and 0."""
    value = _read(name, "true" if default else "false", meaning).lower()
    if value in ("true", "yes", "on", "1"):
        return True
    if value in ("false", "no", "off", "0"):
        return False
    raise BadSetting(f'{name} is "{value}". Allowed: true or false.')


def envsecret(name: str, meaning: str) -> str:
    """A secret, from the variable itself or from the file named by ``NAME_FILE``. "" when neither is set."""
    value = _read(name, "", meaning, secret=True)
    path = os.environ.get(f"{name}_FILE", "").strip()
    if value and path:
        raise BadSetting(f"Both {name} and {name}_FILE are set. Keep one of them.")
    if not path:
        return value
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f'{name}_FILE is "{path}", which cannot be read: {error}.') from None
