"""YAML documents to JSON trees, as Kubernetes reads them. Rules HTTP-20 and HTTP-21 (spec/http.md).

The library only splits the text into events; core/api/yaml_text.py interprets scalars. Time and
memory are bounded by the length of the text and by the limits below, for any aliases: an alias
refers to the tree of its anchor, and the text that all aliases would add is counted before it is
written. Source: YAML 1.1; the documentation of sigs.k8s.io/yaml.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final

from refk8s.core.api import yaml_text
from refk8s.core.api.json_text import DEPTH_MAX
from refk8s.core.api.yaml_text import BadScalar, YamlDocument

NODES_MAX: Final = 200_000
"""The most nodes of one document; 2,000 pods have fewer."""

ALIASED_BYTES_MAX: Final = 3 << 20
"""The most bytes that aliases may add to the text of a document."""


DUPLICATES_MAX: Final = 100
"""The most repeated keys that an error names."""


class BadYaml(ValueError):
    """The text is not YAML, or YAML that is not supported.

    The message begins with "yaml: " or names a value that JSON does not have.
    """


def read_yaml(data: bytes | str) -> YamlDocument:
    """The first document of a text; None if it is empty. Raises BadYaml. O(length)."""
    return next(read_yaml_documents(data), YamlDocument(None))


def read_yaml_documents(data: bytes | str, nodes_max: int = NODES_MAX) -> Iterator[YamlDocument]:
    """Iterate over the documents of a text, parsing each when needed. Raises BadYaml."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadYaml(f"yaml: {_explain(error)}") from None
    try:
        while True:
            event = loader.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                return
            if isinstance(event, yaml.DocumentStartEvent):
                yield _Builder(loader, nodes_max).document()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadYaml(f"yaml: {_explain(error)}") from None
    except BadScalar as error:
        said = str(error)
        raise BadYaml(
            said if said.startswith(("json: ", "unsupported ")) else f"yaml: {said}"
        ) from None
    finally:
        loader.dispose()


def _explain(error: Exception) -> str:
    """The parser's error in the words of Go's parser."""
    problem = (
        getattr(error, "problem", None)
        or getattr(error, "reason", None)
        or "unknown problem parsing YAML content"
    )
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = (mark.line + (type(error).__name__ == "ScannerError")) if mark is not None else 0
    return f"line {line}: {problem}" if line else str(problem)


_MERGE: Final = object()
_NOTHING: Final = object()


class _Frame:
    """A mapping or sequence that is being read."""

    __slots__ = ("anchor", "depth", "key", "mapping", "seen", "size", "tree")

    def __init__(self, tree: Any, anchor: str | None) -> None:
        self.tree = tree
        self.mapping = type(tree) is dict
        self.anchor = anchor
        self.key: Any = _NOTHING
        self.seen: set[Any] = set()
        self.size = 2
        self.depth = 1


class _Builder:
    """Builds the tree of one document from its events, without recursion."""

    def __init__(self, loader: Any, nodes_max: int) -> None:
        self._loader = loader
        self._nodes_left = self._nodes_max = nodes_max
        self._aliased_left = ALIASED_BYTES_MAX
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._duplicates: list[str] = []
        self._frames: list[_Frame] = []
        self._root: Any = None

    def document(self) -> YamlDocument:
        """Read up to the end of the document."""
        import yaml

        next_event, frames = self._loader.get_event, self._frames
        while True:
            event = next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                value = _value(event)
                size = len(event.value) + 3
                if event.anchor:
                    self._anchors[event.anchor] = (value, size, 0)
                self._put(value, size, 0, event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                if len(frames) >= DEPTH_MAX:
                    raise BadScalar(f"exceeded max depth of {DEPTH_MAX}")
                if event.anchor:
                    self._anchors[event.anchor] = None  # until it is complete
                frames.append(_Frame({} if kind is yaml.MappingStartEvent else [], event.anchor))
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                frame = frames.pop()
                if frame.anchor:
                    self._anchors[frame.anchor] = (frame.tree, frame.size, frame.depth)
                self._put(frame.tree, frame.size, frame.depth, event)
            elif kind is yaml.AliasEvent:
                self._put(*self._alias(event.anchor), event)
            elif kind is yaml.DocumentEndEvent:
                return YamlDocument(self._root, tuple(self._duplicates))

    def _alias(self, anchor: str) -> tuple[Any, int, int]:
        if anchor not in self._anchors:
            raise BadScalar(f"unknown anchor '{anchor}' referenced")
        found = self._anchors[anchor]
        if found is None:
            raise BadScalar(f"anchor '{anchor}' value contains itself")
        self._aliased_left -= found[1]
        if self._aliased_left < 0:
            raise BadScalar("document contains excessive aliasing")
        return found

    def _put(self, value: Any, size: int, depth: int, event: Any) -> None:
        """Add a complete node to its parent; `size`: bytes of its text with aliases expanded."""
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise BadScalar(f"document contains more than {self._nodes_max} nodes")
        if not self._frames:
            self._root = _json(value)
            return
        frame = self._frames[-1]
        frame.size += size
        frame.depth = max(frame.depth, depth + 1)
        if depth + len(self._frames) > DEPTH_MAX:
            raise BadScalar(f"exceeded max depth of {DEPTH_MAX}")
        if not frame.mapping:
            frame.tree.append(_json(value))
        elif frame.key is _NOTHING:
            if type(value) in (dict, list):
                raise BadScalar("invalid map key: a map or a list")
            frame.key = _MERGE if value == "<<" and _is_merge(event) else value
        else:
            key, frame.key = frame.key, _NOTHING
            if key is _MERGE:
                self._merge(frame, value, event)
            else:
                self._set(frame, key, value, event)

    def _set(self, frame: _Frame, key: Any, value: Any, event: Any) -> None:
        known = key if type(key) is str else (type(key), key)
        if known in frame.seen and len(self._duplicates) < DUPLICATES_MAX:
            shown = "true" if key is True else "false" if key is False else json.dumps(key)
            self._duplicates.append(
                f"line {event.start_mark.line + 1}: key {shown} already set in map"
            )
        frame.seen.add(known)
        frame.tree[yaml_text.key_text(key)] = _json(value)

    def _merge(self, frame: _Frame, value: Any, event: Any) -> None:
        """`<<: *a` and `<<: [*a, *b]`; the earlier alias has precedence.

        Each merged entry counts against the limit of aliases.
        """
        for one in reversed(value) if type(value) is list else (value,):
            if type(one) is not dict:
                raise BadScalar("map merge requires map or sequence of maps as the value")
            self._nodes_left -= len(one)
            for key, item in one.items():
                self._set(frame, key, item, event)


def _is_merge(event: Any) -> bool:
    return getattr(event, "tag", None) == yaml_text.MERGE or (
        event.tag is None and event.implicit[0]
    )


def _value(event: Any) -> Any:
    tag = event.tag
    if event.style == '"' and not event.value.isascii():
        _check_characters(event.value)
    if tag is None:
        return yaml_text.resolve(event.value) if event.implicit[0] else event.value
    if tag == yaml_text.BINARY:
        try:
            return base64.b64decode(
                event.value.translate({10: None, 13: None, 32: None}), validate=True
            ).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise BadScalar("!!binary value contains invalid base64 data") from None
    return yaml_text.resolve(event.value, tag)


def _check_characters(text: str) -> None:
    """Raises BadScalar for half of a surrogate pair, which is not a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadScalar(str(error)) from None


def _json(value: Any) -> Any:
    """A scalar as a JSON value."""
    if type(value) is float:
        return yaml_text.number_for_json(value)
    return value
