"""Names for interchangeable parts: a literal dict per kind maps a name to "module:attr", imported on first use."""

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from ragplat.errors import BadInput, BadSetting


class Registry:
    """The parts of one kind, such as parsers or generators.

    ``entries`` maps a name to "module:attr". ``extend`` adds entries of an installation's own (RAGPLAT_EXTENSIONS).
    """

    def __init__(self, kind: str, entries: Mapping[str, str]):
        self.kind = kind
        self._entries = dict(entries)

    def names(self) -> list[str]:
        return sorted(self._entries)

    def entries(self) -> dict[str, str]:
        """Every name with its "module:attr", for another process that must know the same parts."""
        return dict(self._entries)

    def extend(self, entries: Mapping[str, str]) -> None:
        self._entries.update(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> Any:
        """The part called ``name``. Raises BadInput listing the choices when there is none."""
        if name not in self._entries:
            raise BadInput(f'There is no {self.kind} named "{name}". Choose one of: {", ".join(self.names())}.')
        module, _, attr = self._entries[name].partition(":")
        try:
            return getattr(import_module(module), attr)
        except (ImportError, AttributeError) as error:
            raise BadSetting(f'The {self.kind} "{name}" ({module}:{attr}) cannot be loaded: {error}') from error


def extend(listed: Iterable[str], registries: Iterable[Registry]) -> None:
    """Add an installation's own parts, listed as "KIND:NAME=MODULE:ATTR", to the registries of those kinds.

    Raises BadSetting for an entry of another form.
    """
    by_kind = {registry.kind: registry for registry in registries}
    for entry in listed:
        found = re.fullmatch(r"(\w+):([\w.@-]+)=([\w.]+:\w+)", entry)
        if found is None:
            raise BadSetting(f'RAGPLAT_EXTENSIONS holds "{entry}". Allowed: KIND:NAME=MODULE:ATTR.')
        kind, name, target = found.groups()
        if kind in by_kind:
            by_kind[kind].extend({name: target})
