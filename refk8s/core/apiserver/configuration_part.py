"""The parts of a configuration document, read strictly: what is not known is refused. Rules OIDC-1
(spec/oidc.md), AUTHZ-10 (spec/authorization.md)."""

from __future__ import annotations

from typing import Any


class BadConfiguration(ValueError):
    """The configuration cannot be used. The message names the field and the reason."""


class Part:
    """A mapping of the document. Every field is read at most once; what is left is not known."""

    def __init__(self, tree: Any, at: str) -> None:
        if not isinstance(tree, dict):
            raise BadConfiguration(f"{at or 'the document'}: must be a mapping")
        self.tree, self.at = tree, at
        self.seen: set[str] = set()

    def _get(self, name: str) -> Any:
        self.seen.add(name)
        return self.tree.get(name)

    def has(self, name: str) -> bool:
        return self.tree.get(name) is not None

    def text(self, name: str) -> str:
        value = self._get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadConfiguration(f"{self.at}.{name}: must be a text")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise BadConfiguration(f"{self.at}.{name}: Required value")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise BadConfiguration(f"{self.at}.{name}: must be true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise BadConfiguration(f"{self.at}.{name}: must be a list of texts")
        return tuple(value)

    def part(self, name: str) -> Part | None:
        value = self._get(name)
        return None if value is None else Part(value, f"{self.at}.{name}".lstrip("."))

    def parts(self, name: str) -> list[Part]:
        value = self._get(name) or []
        if not isinstance(value, list):
            raise BadConfiguration(f"{self.at}.{name}: must be a list")
        at = f"{self.at}.{name}".lstrip(".")
        return [Part(one, f"{at}[{place}]") for place, one in enumerate(value)]

    def missing(self, name: str) -> Part:
        raise BadConfiguration(f"{self.at}.{name}: Required value")

    def close(self, *others: str) -> None:
        """Raise BadConfiguration for a field that is not known."""
        unknown = sorted(set(self.tree) - self.seen - set(others))
        if unknown:
            raise BadConfiguration(f"{self.at}.{unknown[0]}: not known".lstrip("."))
