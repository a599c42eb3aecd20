"""Defaults of secrets. Rule DEF-16 (spec/defaults.md).

Source: Kubernetes documentation, "Secrets".
"""

from binascii import b2a_base64

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Secret


def default_secret(secret: Secret) -> Secret:
    """DEF-16: type Opaque. `stringData` is written into `data`, replaces values there, and is not
    stored."""
    if secret.type and secret.string_data is None:
        return secret
    data = secret.data
    if secret.string_data:
        data = {**(data or {}), **{key: _base64(text) for key, text in secret.string_data.items()}}
    return replace(secret, type=secret.type or "Opaque", data=data, string_data=None)


def _base64(text: str) -> str:
    return b2a_base64(text.encode("utf-8", "surrogatepass"), newline=False).decode("ascii")
