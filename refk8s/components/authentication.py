"""Reads what `--authentication-config` and the flags `--oidc-*` say. Rule OIDC-1 (spec/oidc.md).

Nothing of it is loaded without these flags.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refk8s.components.files import CannotRun, read_file
from refk8s.core.apiserver.oidc.issuers import Anonymous, Issuer

FILE_BYTES_MAX = 1 << 20


def read_authentication(
    path: str, flags: Mapping[str, Any], own_issuer: str
) -> tuple[tuple[Issuer, ...], Anonymous]:
    """The issuers, and who may be anonymous. Raises CannotRun, with the flag and the reason."""
    if not path and not any(flags.values()):
        return (), Anonymous()
    from refk8s.core.apiserver.configuration_part import BadConfiguration
    from refk8s.core.apiserver.oidc.configuration import issuer_of_flags, read_configuration

    if path and any(flags.values()):
        raise CannotRun("--authentication-config: cannot be used with the flags --oidc-*")
    try:
        if path:
            found = read_configuration(_document(path))
            issuers, anonymous = found.issuers, found.anonymous
        else:
            given = {name: value for name, value in flags.items() if value}
            if file := given.pop("authority", ""):
                given["authority"] = _text(file, "--oidc-ca-file")
            if "url" not in given:
                raise BadConfiguration("--oidc-issuer-url: required with the other flags --oidc-*")
            issuers, anonymous = (issuer_of_flags(**{"client_id": "", **given}),), Anonymous()
    except BadConfiguration as error:
        where = f"--authentication-config {path}: " if path else ""
        raise CannotRun(f"{where}{error}") from None
    if any(one.url == own_issuer for one in issuers):
        raise CannotRun(
            f"--authentication-config {path}: {own_issuer} is this cluster's own issuer"
        )
    return issuers, anonymous


def _text(path: str, flag: str) -> str:
    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{flag} {path}: there is no such file")
    try:
        return data.decode()
    except UnicodeError:
        raise CannotRun(f"{flag} {path}: not a text") from None


def _document(path: str) -> Any:
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    text = _text(path, "--authentication-config")
    try:
        return read_yaml(text.encode()).tree
    except BadYaml as error:
        raise CannotRun(f"--authentication-config {path}: {error}") from None
