"""Warnings about secrets, service accounts and runtime classes. Rule WARN-4 (spec/validation.md).

Source: Kubernetes documentation, "Secrets" (TLS Secrets), "Service Accounts", "Runtime Class". Left
out: whether the key of a TLS secret matches its certificate.
"""

import re
from binascii import Error, a2b_base64

from refk8s.core.api.core_v1 import Secret, ServiceAccount
from refk8s.core.api.node_v1 import RuntimeClass
from refk8s.core.apiserver.warnings.pods import NODE_LABELS

MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
_is_pem = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s[A-Za-z0-9+/=\s]*-----END \1-----").search


def of_secret(new: Secret, old: Secret | None) -> list[str]:
    """A TLS secret whose certificate or key is not PEM is accepted, but useless."""
    if new.type != "kubernetes.io/tls":
        return []
    data = new.data or {}
    for key, name in (("tls.crt", "certificate"), ("tls.key", "key")):
        if _is_pem(_bytes(data.get(key, ""))) is None:
            return [f"tls: failed to find any PEM data in {name} input"]
    return []


def _bytes(encoded: str) -> bytes:
    try:
        return a2b_base64(encoded)
    except (Error, ValueError):
        return b""


def of_service_account(new: ServiceAccount, old: ServiceAccount | None) -> list[str]:
    before = (old.metadata.annotations or {}) if old is not None else {}
    if MOUNTABLE in (new.metadata.annotations or {}) and MOUNTABLE not in before:
        words = (
            "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )
        return [f"metadata.annotations[{MOUNTABLE}]: {words}"]
    return []


def of_runtime_class(new: RuntimeClass, old: RuntimeClass | None) -> list[str]:
    selector = (new.scheduling.node_selector or {}) if new.scheduling is not None else {}
    return [
        f"scheduling.nodeSelector[{key}]: {NODE_LABELS[key]}"
        for key in selector
        if key in NODE_LABELS
    ]
