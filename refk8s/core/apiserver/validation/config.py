"""Config maps, secrets and service accounts. Rule VAL-27 (spec/validation.md).

Source: Kubernetes documentation, "ConfigMaps", "Secrets" (types and the keys that they need),
"Service Accounts".
"""

from binascii import Error, a2b_base64
from typing import Any

from msgspec import DecodeError, json

from refk8s.core.api.core_v1 import ConfigMap, Secret
from refk8s.core.apiserver.validation.field import (
    WHOLE,
    Causes,
    forbidden,
    invalid,
    malformed,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.names import config_key

BYTES_MAX = 1024 * 1024
FROZEN = "field is immutable when `immutable` is set"
SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"

# The required keys of each type of secret.
_NEEDED = {
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
}


def validate_config_map(config_map: ConfigMap) -> Causes:
    """VAL-27: keys are valid file names, none is in both maps, and all data together is at most 1
    MiB."""
    causes: Causes = []
    data, binary = config_map.data or {}, config_map.binary_data or {}
    size = 0
    for key, text in data.items():
        if words := config_key(key):
            causes += [invalid(f"data[{key}]", key, word) for word in words]
        if key in binary:
            causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(text)
    for key, encoded in binary.items():
        causes += malformed(f"binaryData[{key}]", key, config_key)
        size += len(encoded) * 3 // 4
    if size * 4 > BYTES_MAX:  # a character is at most four bytes
        size = sum([len(text.encode("utf-8", "surrogatepass")) for text in data.values()])
        size += sum([_length(text) for text in binary.values()])
        if size > BYTES_MAX:
            causes.append(too_long(WHOLE, BYTES_MAX))
    return causes


def _length(encoded: str) -> int:
    """The number of bytes that the base64 text encodes."""
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")


def validate_config_map_update(new: ConfigMap, old: ConfigMap) -> Causes:
    """VAL-27: if `immutable` is set, it and the data are immutable."""
    causes: Causes = []
    if old.immutable:
        if not new.immutable:
            causes.append(forbidden("immutable", FROZEN))
        if (new.data or {}) != (old.data or {}):
            causes.append(forbidden("data", FROZEN))
        if (new.binary_data or {}) != (old.binary_data or {}):
            causes.append(forbidden("binaryData", FROZEN))
    return causes + validate_config_map(new)


def validate_secret(secret: Secret) -> Causes:
    """VAL-27: as for config maps; and the keys that the type requires."""
    causes: Causes = []
    data = secret.data or {}
    for key in data:
        if words := config_key(key):
            causes += [invalid(f"data[{key}]", key, word) for word in words]
    if sum([_length(text) for text in data.values()]) > BYTES_MAX:
        causes.append(too_long("data", BYTES_MAX))
    kind = secret.type
    for key in _NEEDED.get(kind or "", ()):
        if key not in data:
            causes.append(required(f"data[{key}]"))
        elif kind in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson") and not _is_json(
            data[key]
        ):
            causes.append(
                invalid(f"data[{key}]", "<secret contents redacted>", "invalid character in JSON")
            )
    if kind == "kubernetes.io/service-account-token" and not (
        secret.metadata.annotations or {}
    ).get(SERVICE_ACCOUNT_NAME):
        causes.append(required(f"metadata.annotations[{SERVICE_ACCOUNT_NAME}]"))
    if kind == "kubernetes.io/basic-auth" and not ("username" in data or "password" in data):
        causes += [required("data[username]"), required("data[password]")]
    return causes


def _is_json(encoded: str) -> bool:
    try:
        found: Any = json.decode(a2b_base64(encoded))
    except (DecodeError, Error, ValueError):
        return False
    return isinstance(found, dict)


def validate_secret_update(new: Secret, old: Secret) -> Causes:
    """VAL-27: the type is immutable; if `immutable` is set, it and the data are too."""
    causes = unchanged("type", new.type, old.type)
    if old.immutable:
        if not new.immutable:
            causes.append(forbidden("immutable", FROZEN))
        if (new.data or {}) != (old.data or {}):
            causes.append(forbidden("data", FROZEN))
    return causes + validate_secret(new)
