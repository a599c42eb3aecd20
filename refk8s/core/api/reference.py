"""The name of a container image: registry, path, tag, digest. Rule DEF-5 (spec/defaults.md).

    registry.example.com:5000/team/app:1.2@sha256:<64 hexadecimal digits>

Source: the grammar of references of the distribution project; Kubernetes documentation, "Images"
(image names).
"""

import re

from refk8s.core.memo import remember
from refk8s.core.value import Value

NAME_MAX = 255
_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = r"[a-z0-9]++(?:(?:[._]|__|-++)[a-z0-9]++)*+"
_is_domain = re.compile(_DOMAIN, re.ASCII).fullmatch
_is_path = re.compile(rf"{_PATH}(?:/{_PATH})*+", re.ASCII).fullmatch
_is_tag = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII).fullmatch
_is_digest = re.compile(
    r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}", re.ASCII
).fullmatch
_is_identifier = re.compile(r"[a-f0-9]{64}", re.ASCII).fullmatch
_HUB = "docker.io"


class Reference(Value, frozen=True):
    """The complete name of an image: the registry is always set. Tag and digest are empty if the
    text has none."""

    domain: str
    path: str
    tag: str
    digest: str


@remember(1024)
def parse(text: str) -> Reference | None:
    """The reference in this text; None for any other text. O(text)."""
    if not text or len(text) > 2 * NAME_MAX + 300 or _is_identifier(text):
        return None
    name, at, digest = text.partition("@")
    if at and not _is_digest(digest):
        return None
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, remainder = first, rest
    else:
        domain, remainder = _HUB, name
    path, colon, tag = remainder.partition(":")
    if not _is_domain(domain) or not _is_path(path) or (colon and not _is_tag(tag)):
        return None
    if len(domain) + 1 + len(path) > NAME_MAX:
        return None
    return Reference(
        domain, path if "/" in path or domain != _HUB else f"library/{path}", tag, digest
    )
