"""Links in the answers of proxied servers: they lead through the proxy again. Rule STREAM-16
(spec/streams.md).

Source: Kubernetes documentation, "Access Services Running on Clusters"; HTML standard (attributes
that are URLs); RFC 9110, section 10.2.2 (Location).
"""

import re
from html import escape, unescape
from urllib.parse import urlsplit, urlunsplit

from refk8s.core.value import Value

_ATTRIBUTES = {
    "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href", "blockquote": "cite",
    "body": "background", "button": "formaction", "command": "icon", "del": "cite", "embed": "src",
    "form": "action", "frame": "longdesc src", "head": "profile", "html": "manifest",
    "iframe": "longdesc src", "img": "longdesc src usemap", "input": "src usemap formaction", "ins": "cite",
    "link": "href", "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src",
    "video": "poster src",
}  # fmt: skip
"""The attributes of HTML elements that are URLs."""
_NAME = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>])")
_SPACE = re.compile(r"[\s/]+")
_ATTRIBUTE = re.compile(r"([^\s=<>\"'/]+)(?:(\s*=\s*)(?=[^\s>]))?")
_PLAIN_VALUE = re.compile(r"[^\s<>]+")
_RAW_TEXT = frozenset(("script", "style", "textarea", "title"))
"""Elements whose content is no markup."""


class Place(Value, frozen=True):
    """The URL prefix of the proxy, the Host header of the client, and the host of the destination's
    own URLs."""

    prefix: str
    host: str = ""
    destination: str = ""
    scheme: str = "https"


def rewrite_url(url: str, place: Place) -> str:
    """The URL for the client. A URL of another host, or one that is relative to the present path,
    stays as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    is_other = bool(parts.netloc) and parts.netloc not in (place.host, place.destination)
    if is_other or not parts.path.startswith("/") or (parts.scheme and not parts.netloc):
        return url
    scheme, host = parts.scheme, parts.netloc
    if scheme or host:
        scheme, host = place.scheme, place.host
    path = parts.path
    if not _is_below(path, place.prefix):
        path = place.prefix + _without_dots(path)
    return urlunsplit((scheme, host, path, parts.query, parts.fragment))


def _is_below(path: str, prefix: str) -> bool:
    is_below = path == prefix or path.startswith(f"{prefix}/")
    return is_below and ".." not in path.split("/")


def _without_dots(path: str) -> str:
    """The absolute path with its ".." resolved, so that it leads to no other place of the API
    server."""
    kept: list[str] = []
    *segments, last = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    if last == "..":
        del kept[-1:]
    last = "" if last in (".", "..") else last
    return "/" + "/".join([*kept, last])


def rewrite_html(text: str, place: Place) -> str:
    """The document with its links rewritten. Markup that is not closed stays as it is. O(length):
    each character is read once, whatever the document is."""
    parts: list[str] = []
    kept = at = 0  # `kept`: what is before it is in `parts`
    lower = text.lower()
    while (start := text.find("<", at)) >= 0:
        if text.startswith("<!--", start):
            end = text.find("-->", start + 4)
            if end < 0:
                break
            at = end + 3
            continue
        named = _NAME.match(text, start)
        if named is None:
            at = start + 1
            continue
        tag = named[1].lower()
        found = _read_tag(text, named.end())
        if found is None:
            break
        at, values = found
        for begin, end, name, value in values:
            if name.lower() in _ATTRIBUTES.get(tag, "").split():
                url = unescape(value).strip()
                changed = rewrite_url(url, place)
                if changed != url:
                    parts += [text[kept:begin], f'"{escape(changed)}"']
                    kept = end
        if tag in _RAW_TEXT:
            end = lower.find(f"</{tag}", at)
            if end < 0:
                break
            at = end
    return "".join([*parts, text[kept:]])


def _read_tag(text: str, at: int) -> tuple[int, list[tuple[int, int, str, str]]] | None:
    """(the end of the tag, [(begin and end of an attribute's value, its name, the value)]); None if
    the document ends within the tag."""
    found: list[tuple[int, int, str, str]] = []
    while at < len(text):
        if text[at] == ">":
            return at + 1, found
        if text[at] == "<":
            return at, found
        if (space := _SPACE.match(text, at)) is not None:
            at = space.end()
            continue
        attribute = _ATTRIBUTE.match(text, at)
        if attribute is None:
            if text[at] in "\"'":
                at = text.find(text[at], at + 1) + 1
                if not at:
                    return None
            else:
                at += 1
            continue
        at = attribute.end()
        if attribute[2] is None:
            continue
        begin, quote = at, text[at]
        if quote in "\"'":
            end = text.find(quote, at + 1)
            if end < 0:
                return None
            at = end + 1
            found.append((begin, at, attribute[1], text[begin + 1 : end]))
        elif (plain := _PLAIN_VALUE.match(text, at)) is not None:
            at = plain.end()
            found.append((begin, at, attribute[1], plain[0]))
    return None
