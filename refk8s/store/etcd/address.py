"""The URL of an etcd cluster. Rule ETCD-1 (spec/etcd.md).

etcd://10.0.0.1:2379,10.0.0.2:2379?prefix=/registry&cacert=ca.crt&cert=client.crt&key=client.key
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from attrs import frozen

from refk8s.store.errors import StoreRefused

SCHEME: Final = "etcd://"
PORT: Final = 2379
PREFIX: Final = "/registry"
ENDPOINTS_MAX: Final = 16
PREFIX_LENGTH_MAX: Final = 200

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._-]+)+")
_FILES = ("cacert", "cert", "key")


@frozen
class EtcdAddress:
    """The endpoints of an etcd cluster, and the prefix of the keys that belong to this cluster."""

    endpoints: tuple[str, ...]
    """`host:port` of each member."""
    prefix: str = PREFIX
    """The prefix of every key, without a slash at its end."""
    cacert: str = ""
    """The file of the certificate authority that signed the members' certificates."""
    cert: str = ""
    key: str = ""
    """The files of the client's certificate and private key."""

    @property
    def is_tls(self) -> bool:
        """Whether the connections use TLS: if any of the files is named."""
        return bool(self.cacert or self.cert)


def parse_address(url: str) -> EtcdAddress:
    """The address that a URL of the command line names. Raises StoreRefused with the next step."""
    hosts, _, query = url.removeprefix(SCHEME).partition("?")
    endpoints = tuple(_endpoint(host, url) for host in hosts.rstrip("/").split(","))
    if len(endpoints) > ENDPOINTS_MAX:
        raise _refused(url, f"more than {ENDPOINTS_MAX} endpoints")
    found: dict[str, str] = {}
    try:
        parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _refused(url, "the part after ? is not name=value&name=value") from None
    for name, value in parameters:
        if name not in ("prefix", *_FILES):
            raise _refused(url, f"unknown parameter {name!r}; there are prefix, cacert, cert, key")
        if name in found or not value:
            raise _refused(url, f"parameter {name} needs exactly one value")
        found[name] = value
    prefix = found.get("prefix", PREFIX)
    if not _PREFIX.fullmatch(prefix) or len(prefix) > PREFIX_LENGTH_MAX:
        raise _refused(url, f"prefix {prefix!r} is not of the form /name or /name/name")
    if ("cert" in found) != ("key" in found):
        raise _refused(url, "cert and key belong together")
    return EtcdAddress(endpoints, prefix, *(found.get(name, "") for name in _FILES))


def _endpoint(text: str, url: str) -> str:
    host, port = text, ""
    if not text.endswith("]") and ":" in text:
        host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host):
        raise _refused(url, f"{text!r} is not HOST:PORT")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise _refused(url, f"{port!r} is not a port")
    return f"{host}:{port or PORT}"


def _refused(url: str, problem: str) -> StoreRefused:
    return StoreRefused(f"store {url}: {problem}; use {SCHEME}HOST:{PORT},HOST:{PORT}?prefix=...")
