"""Names of objects, labels, ports, paths and variables. Rule VAL-3 (spec/validation.md).

A check takes a text and returns Kubernetes' messages, none if the text is valid. Lengths are in
bytes. Every valid character is one byte, so a text that is too long in characters is also too long
in bytes, and a text with other characters does not match the pattern. Source: Kubernetes
documentation, "Object Names and IDs", "Labels and Selectors"; RFC 1123, RFC 1035.
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from refk8s.core.memo import remember

Messages: TypeAlias = tuple[str, ...]
Check: TypeAlias = Callable[[str], Messages]

LABEL_MAX, SUBDOMAIN_MAX = 63, 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

# The patterns that are used: equivalent to those above, in forms that do not backtrack for long on
# hostile input.
_is_label = re.compile(r"(?!-)[-a-z0-9]+(?<!-)", re.ASCII).fullmatch
_is_label_1035 = re.compile(r"[a-z][-a-z0-9]*(?<!-)", re.ASCII).fullmatch
_is_subdomain = re.compile(
    r"(?!-)[-a-z0-9]++(?<!-)(?:\.(?!-)[-a-z0-9]++(?<!-))*+", re.ASCII
).fullmatch
_is_qualified = re.compile(r"(?![-_.])[-A-Za-z0-9_.]+(?<![-_.])", re.ASCII).fullmatch
_is_config_key = re.compile(_CONFIG_KEY, re.ASCII).fullmatch
_is_relaxed_env_name = re.compile(r"[ -<>-~]+", re.ASCII).fullmatch
_is_http_header = re.compile(_HTTP_HEADER, re.ASCII).fullmatch
_is_c_identifier = re.compile(_C_IDENTIFIER, re.ASCII).fullmatch
_is_url_path = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII).fullmatch
_is_port_name = re.compile(r"[-a-z0-9]+", re.ASCII).fullmatch

_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric "
    f"character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an "
    "alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
    "'-' or '.', and must start and end with an "
    f"alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'MyName',  or "
    f"'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', "
    "'_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
    f"regex used for validation is '{_LABEL_VALUE}')"
)
_CONFIG_KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex "
    f"used for validation is '{_CONFIG_KEY}')"
)


def _longer_than(limit: int, unit: str = "characters") -> str:
    """Upstream counts bytes in both cases, but only labels say so."""
    return f"must be no more than {limit} {unit}"


@remember(1024)
def dns_label(text: str) -> Messages:
    """RFC 1123 label: namespaces, containers, volumes."""
    messages = [] if len(text) <= LABEL_MAX else [_longer_than(LABEL_MAX)]
    if not _is_label(text):
        messages.append(_LABEL_MESSAGE)
    return tuple(messages)


@remember(1024)
def dns_label_1035(text: str) -> Messages:
    """RFC 1035 label: the names and versions of custom resources."""
    messages = [] if len(text) <= LABEL_MAX else [_longer_than(LABEL_MAX)]
    if not _is_label_1035(text):
        messages.append(_LABEL_1035_MESSAGE)
    return tuple(messages)


@remember(1024)
def dns_subdomain(text: str) -> Messages:
    """RFC 1123 subdomain, labels between dots: most objects."""
    return _subdomain(text, "characters")


def _subdomain(text: str, unit: str) -> Messages:
    messages = [] if len(text) <= SUBDOMAIN_MAX else [_longer_than(SUBDOMAIN_MAX, unit)]
    if not _is_subdomain(text):
        messages.append(_SUBDOMAIN_MESSAGE)
    return tuple(messages)


def wildcard_subdomain(text: str) -> Messages:
    """A subdomain after `*.`: `*.example.com`."""
    if text.startswith("*.") and not dns_subdomain(text[2:]):
        return ()
    return (
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
        "which must consist of lower case "
        "alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. "
        "'*.example.com', regex used for "
        r"validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )


def path_segment(text: str) -> Messages:
    """Any text that can be one segment of a path: names of roles and bindings, and the minimum for
    every name."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple([f"may not contain '{mark}'" for mark in "/%" if mark in text])


@remember(4096)
def qualified_name(text: str) -> Messages:
    """A key of labels and annotations: a name of at most 63 bytes, optionally with a subdomain and
    a slash before it."""
    prefix, slash, name = text.rpartition("/")
    messages = []
    if slash:
        if "/" in prefix:
            return (
                f"a valid label key {_QUALIFIED_MESSAGE} with an optional DNS subdomain prefix "
                "and '/' (e.g. 'example.com/MyName')",
            )
        messages += (
            ["prefix part must be non-empty"]
            if not prefix
            else [f"prefix part {message}" for message in _subdomain(prefix, "bytes")]
        )
    if not name:
        messages.append("name part must be non-empty")
    elif len(name) > LABEL_MAX:
        messages.append(f"name part {_longer_than(LABEL_MAX, 'bytes')}")
    if not _is_qualified(name):
        messages.append(f"name part {_QUALIFIED_MESSAGE}")
    return tuple(messages)


@remember(4096)
def label_value(text: str) -> Messages:
    messages = [] if len(text) <= LABEL_MAX else [_longer_than(LABEL_MAX, "bytes")]
    if text and not _is_qualified(text):
        messages.append(_LABEL_VALUE_MESSAGE)
    return tuple(messages)


def config_key(text: str) -> Messages:
    """A key of a config map or secret, which is a valid file name."""
    messages = [] if len(text) <= SUBDOMAIN_MAX else [_longer_than(SUBDOMAIN_MAX)]
    if not _is_config_key(text):
        messages.append(_CONFIG_KEY_MESSAGE)
    elif text == ".":
        messages.append("must not be '.'")
    elif text == "..":
        messages.append("must not be '..'")
    elif text.startswith(".."):
        messages.append("must not start with '..'")
    return tuple(messages)


def env_name(text: str) -> Messages:
    """The name of an environment variable: printable ASCII except the equals sign."""
    if not _is_relaxed_env_name(text):
        return (
            "a valid environment variable name must consist only of printable ASCII characters "
            "other than '='",
        )
    return ()


def c_identifier(text: str) -> Messages:
    """A C identifier: attributes of devices."""
    if _is_c_identifier(text):
        return ()
    return (
        "a valid C identifier must start with alphabetic character or '_', "
        "followed by a string of alphanumeric characters or '_' (e.g. "
        f"'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '{_C_IDENTIFIER}')",
    )


def http_header(text: str) -> Messages:
    if _is_http_header(text):
        return ()
    return (
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
        "'X-Header-Name', regex used for validation is "
        f"'{_HTTP_HEADER}')",
    )


def port_name(text: str) -> Messages:
    """An IANA service name: at most 15 lower case letters, digits and single dashes, with at least
    one letter."""
    messages = [] if len(text) <= 15 else ["must be no more than 15 characters"]
    if not _is_port_name(text):
        messages.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= mark <= "z" for mark in text):
        messages.append("must contain at least one letter (a-z)")
    if "--" in text:
        messages.append("must not contain consecutive hyphens")
    if text[:1] == "-" or text[-1:] == "-":
        messages.append("must not begin or end with a hyphen")
    return tuple(messages)


def domain_prefixed_path(text: str) -> Messages:
    """A domain, a slash and a path, such as the manager of a job: `acme.io/foo`."""
    domain, slash, path = text.partition("/")
    if not slash:
        return ('must be a domain-prefixed path (such as "acme.io/foo")',)
    messages = list(dns_subdomain(domain))
    if not path:
        messages.append('must be a domain-prefixed path (such as "acme.io/foo")')
    elif not _is_url_path(path):
        messages.append("Invalid path (e.g. '/finalizers/foo')")
    return tuple(messages)


def mask_trailing_dash(text: str) -> str:
    """A generateName without its final dash, which is valid because a suffix follows."""
    return text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text


# --- addresses


@remember(4096)
def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None. An address with a zone (`fe80::1%eth0`) is not valid."""
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except (AddressValueError, ValueError):
        return None


def is_cidr(text: str) -> bool:
    """An address, a slash and the length of the prefix; bits after the prefix are allowed."""
    address, slash, length = text.partition("/")
    if not slash or "%" in address or not (length.isascii() and length.isdigit()):
        return False
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def ip(text: str) -> Messages:
    return (
        ()
        if parse_ip(text) is not None
        else ("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",)
    )
