"""ClusterTrustBundles and PodCertificateRequests. Rules VAL-70, VAL-71 (spec/validation.md).

Source: API reference, "ClusterTrustBundle", "PodCertificateRequest"; KEP-3257, KEP-4317. Left out:
the signature of a stub request, and whether the times of a status are those of its certificate.
"""

import binascii
import re
from base64 import b64decode, b64encode
from typing import Any

from refk8s.core.api.certificates_v1 import ClusterTrustBundle, PodCertificateRequest
from refk8s.core.api.pem import CERTIFICATE, decode_block, is_sequence, read_blocks
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.apiserver.validation.certificates import validate_signer_name
from refk8s.core.apiserver.validation.conditions import validate_conditions
from refk8s.core.apiserver.validation.field import (
    Causes,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.metadata import validate_annotations
from refk8s.core.apiserver.validation.names import dns_subdomain

BUNDLE_BYTES_MAX = 1 << 20
CHAIN_BYTES_MAX = 128 << 10
STUB_BYTES_MAX = 10 << 10
UID_BYTES_MAX = 128
SECONDS_MIN = 3_600
SECONDS_MAX = 91 * 86_400
SECONDS_MAX_OF_KUBERNETES = 86_400
OMITTED = "<value omitted>"
DECISIONS = ("Denied", "Failed", "Issued")
_IS_AUTHORITY = re.compile(
    rb"\x06\x03\x55\x1d\x13(?:\x01\x01\xff)?\x04.\x30.\x01\x01\xff", re.DOTALL
)
"""The extension basicConstraints of an authority, in DER."""


# --- bundles


def validate_trust_bundle(bundle: ClusterTrustBundle) -> Causes:
    """VAL-70."""
    return _validate_bundle(bundle) + _validate_anchors(bundle.spec.trust_bundle)


def validate_trust_bundle_update(new: ClusterTrustBundle, old: ClusterTrustBundle) -> Causes:
    """VAL-70: certificates that do not change are not read again; the signer is immutable."""
    causes = _validate_bundle(new)
    if new.spec.trust_bundle != old.spec.trust_bundle:
        causes += _validate_anchors(new.spec.trust_bundle)
    return causes + unchanged(
        "spec.signerName", new.spec.signer_name or "", old.spec.signer_name or ""
    )


def _validate_bundle(bundle: ClusterTrustBundle) -> Causes:
    name, signer = bundle.metadata.name or "", bundle.spec.signer_name or ""
    causes: Causes = []
    prefix = signer.replace("/", ":") + ":"
    if not signer and ":" in name:
        words = 'ClusterTrustBundle without signer name must not have ":" in its name'
        causes.append(invalid("metadata.name", name, words))
    elif not signer:
        causes += malformed("metadata.name", name, dns_subdomain) if name else []
    elif not name.startswith(prefix):
        words = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        causes.append(invalid("metadata.name", name, words))
    else:
        rest = name.removeprefix(prefix)
        causes += [invalid("metadata.name", name, words) for words in dns_subdomain(rest)]
    return causes + (validate_signer_name(signer, "spec.signerName") if signer else [])


def _validate_anchors(text: str) -> Causes:
    """At least one certificate of an authority, each once."""
    at = "spec.trustBundle"
    if len(text) > BUNDLE_BYTES_MAX:
        return [too_long(at, BUNDLE_BYTES_MAX)]
    causes: Causes = []
    seen: dict[bytes, list[int]] = {}
    for number, (label, content) in enumerate(read_blocks(text)):
        der = decode_block(content)
        if label != CERTIFICATE:
            problem = f"has bad block type: {label}"
        elif ":" in content:
            problem = "has PEM block headers"
        elif der is None or not is_sequence(der):
            problem = "does not parse as X.509"
        elif _IS_AUTHORITY.search(der) is None:
            problem = "does not have the CA bit set"
        else:
            seen.setdefault(der, []).append(number)
            continue
        causes.append(invalid(at, OMITTED, f"entry {number} {problem}"))
    if causes:
        return causes
    if not seen:
        return [invalid(at, OMITTED, "at least one trust anchor must be provided")]
    return [
        invalid(at, OMITTED, f"duplicate trust anchor (indices [{' '.join(map(str, numbers))}])")
        for numbers in seen.values()
        if len(numbers) > 1
    ]


# --- requests of pods


def validate_pod_request(request: PodCertificateRequest) -> Causes:
    """VAL-71."""
    spec = request.spec
    causes = validate_signer_name(spec.signer_name, "spec.signerName")
    if spec.unverified_user_annotations:
        causes += validate_annotations(
            spec.unverified_user_annotations, "spec.unverifiedUserAnnotations"
        )
    for place, name, uid in (
        ("pod", spec.pod_name, spec.pod_uid),
        ("serviceAccount", spec.service_account_name, spec.service_account_uid),
        ("node", spec.node_name, spec.node_uid),
    ):
        causes += malformed(f"spec.{place}Name", name, dns_subdomain)
        if not uid:
            causes.append(invalid(f"spec.{place}UID", uid, "must not be empty"))
        if len(uid) > UID_BYTES_MAX:
            causes.append(too_long(f"spec.{place}UID", UID_BYTES_MAX))
    return causes + _validate_seconds(request) + _validate_stub(spec.stub_pkcs10_request)


def _validate_seconds(request: PodCertificateRequest) -> Causes:
    """Signers of Kubernetes issue for a day, all others for 91 days."""
    seconds, domain = (
        request.spec.max_expiration_seconds,
        request.spec.signer_name.partition("/")[0],
    )
    at = "spec.maxExpirationSeconds"
    if seconds is None:
        return [required(at, "must be set")]
    is_own = domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
    limit = SECONDS_MAX_OF_KUBERNETES if is_own else SECONDS_MAX
    if SECONDS_MIN <= seconds <= limit:
        return []
    return [invalid(at, seconds, f"must be in the range [{SECONDS_MIN}, {limit}]")]


def _validate_stub(text: str) -> Causes:
    """A PKCS #10 request in DER."""
    at = "spec.stubPKCS10Request"
    try:
        der = b64decode(text)
    except (binascii.Error, ValueError):
        der = b""
    if len(der) > STUB_BYTES_MAX:
        return [too_long(at, STUB_BYTES_MAX)]
    label = b"CERTIFICATE REQUEST"
    pem = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, b64encode(der), label)
    try:
        read_request(b64encode(pem).decode())
    except NotPkcs10:
        return [invalid(at, OMITTED, "must be a valid PKCS#10 certificate signing request")]
    return []


def validate_pod_request_update(new: PodCertificateRequest, old: PodCertificateRequest) -> Causes:
    """VAL-71: the spec is immutable."""
    return unchanged("spec", new.spec, old.spec)


def validate_pod_request_status(new: PodCertificateRequest, old: PodCertificateRequest) -> Causes:
    """VAL-71: one decision, after which nothing changes."""
    conditions = new.status.conditions or ()
    causes: Causes = []
    for position, condition in enumerate(conditions):
        here = f"status.conditions[{position}]"
        if condition.type not in DECISIONS:
            causes.append(not_supported(f"{here}.type", condition.type, DECISIONS))
            continue
        if any(one.type in DECISIONS for one in conditions[:position]):
            words = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            causes.append(invalid(f"{here}.type", condition.type, words))
        if condition.status != "True":
            causes.append(not_supported(f"{here}.status", condition.status, ("True",)))
    causes += validate_conditions(conditions, "status.conditions")
    if causes:
        return causes
    if old.status.conditions:
        words = "immutable after PodCertificateRequest is issued, denied, or failed"
        return [] if new.status == old.status else [invalid("status", new.status, words)]
    return _validate_outcome(new.status)


def _validate_outcome(status: Any) -> Causes:
    decision = next((one.type for one in status.conditions or ()), "")
    times = (status.not_before, status.begin_refresh_at, status.not_after)
    if decision != "Issued":
        words = (
            "non-condition status fields must be empty when denying or failing the "
            "PodCertificateRequest"
        )
        is_empty = not status.certificate_chain and times == (None, None, None)
        return [] if is_empty or not decision else [invalid("status", status, words)]
    at, chain = "status.certificateChain", status.certificate_chain or ""
    if len(chain) > CHAIN_BYTES_MAX:
        return [too_long(at, CHAIN_BYTES_MAX)]
    labels = [label for label, _ in read_blocks(chain)]
    if not labels:
        words = "issued certificate chain must contain at least one certificate"
        return [invalid(at, chain, words)]
    if any(label != CERTIFICATE for label in labels):
        words = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks"
        return [invalid(at, chain, words)]
    names = ("notBefore", "beginRefreshAt", "notAfter")
    return [
        required(f"status.{name}", "must be present and consistent with the issued certificate")
        for name, time in zip(names, times, strict=True)
        if time is None
    ]
