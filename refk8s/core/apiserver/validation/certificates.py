"""Certificate signing requests. Rule VAL-51 (spec/validation.md).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests"; API reference.
"""

from base64 import b64decode

from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from refk8s.core.apiserver.validation.names import dns_label

EXPIRATION_SECONDS_MIN = 600
DOMAIN_MAX, PATH_MAX = 253, 317
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
_PERMANENT = (APPROVED, DENIED, FAILED)


def validate_signing_request(request: CertificateSigningRequest) -> Causes:
    """VAL-51: a PKCS #10 request with known usages and a signer name."""
    spec = request.spec
    causes: Causes = []
    try:
        read_request(spec.request)
    except NotPkcs10 as error:
        causes.append(invalid("spec.request", spec.request, str(error)))
    if not spec.usages:
        causes.append(required("spec.usages"))
    seen: set[str] = set()
    for position, usage in enumerate(spec.usages or ()):
        if usage not in USAGES:
            causes.append(not_supported(f"spec.usages[{position}]", usage, USAGES))
        if usage in seen:
            causes.append(duplicate(f"spec.usages[{position}]", usage))
        seen.add(usage)
    if spec.signer_name == LEGACY_SIGNER:
        words = "the legacy signerName is not allowed via this API version"
        causes.append(invalid("spec.signerName", spec.signer_name, words))
    else:
        causes += validate_signer_name(spec.signer_name, "spec.signerName")
    seconds = spec.expiration_seconds
    if seconds is not None and seconds < EXPIRATION_SECONDS_MIN:
        words = (
            f"may not specify a duration less than {EXPIRATION_SECONDS_MIN} seconds (10 minutes)"
        )
        causes.append(invalid("spec.expirationSeconds", seconds, words))
    return causes + _validate_conditions(request)


def validate_signer_name(name: str, at: str) -> Causes:
    """VAL-51: a domain of at least two labels, a slash, and a path of labels."""
    if not name:
        return [required(at)]
    if name.count("/") != 1:
        words = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(at, name, words)]
    domain, _, path = name.partition("/")
    causes: Causes = []
    if len(domain) > DOMAIN_MAX:
        causes.append(too_long(at, DOMAIN_MAX))
    if "." not in domain:
        words = "should be a domain with at least two segments separated by dots"
        causes.append(invalid(at, domain, words))
    for part in domain.split("."):
        causes += [
            invalid(at, domain, f'validating label "{part}": {word}') for word in dns_label(part)
        ]
    if len(path) > PATH_MAX:
        causes.append(too_long(at, PATH_MAX))
    for part in path.split("."):
        causes += [
            invalid(at, path, f'validating label "{part}": {word}') for word in dns_label(part)
        ]
    return causes


# --- conditions


def _validate_conditions(request: CertificateSigningRequest) -> Causes:
    """VAL-51: each type once; Approved, Denied and Failed are True if present; Approved and Denied
    exclude each other."""
    causes: Causes = []
    seen: set[str] = set()
    for position, condition in enumerate(request.status.conditions or ()):
        here = f"status.conditions[{position}]"
        if not condition.type:
            causes.append(required(f"{here}.type"))
        allowed = ("True",) if condition.type in _PERMANENT else ("False", "True", "Unknown")
        if not condition.status:
            causes.append(required(f"{here}.status"))
        elif condition.status not in allowed:
            causes.append(not_supported(f"{here}.status", condition.status, allowed))
        if {APPROVED: DENIED, DENIED: APPROVED}.get(condition.type) in seen:
            words = "Approved and Denied conditions are mutually exclusive"
            causes.append(invalid(f"{here}.type", condition.type, words))
        if condition.type in seen:
            causes.append(duplicate(f"{here}.type", condition.type))
        seen.add(condition.type)
    return causes


def _of_type(
    request: CertificateSigningRequest, kind: str
) -> list[CertificateSigningRequestCondition]:
    return [condition for condition in request.status.conditions or () if condition.type == kind]


def _kept(new: CertificateSigningRequest, old: CertificateSigningRequest) -> Causes:
    """VAL-51: these conditions are never removed."""
    return [
        forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')
        for kind in _PERMANENT
        if len(_of_type(new, kind)) < len(_of_type(old, kind))
    ]


def validate_approval(new: CertificateSigningRequest, old: CertificateSigningRequest) -> Causes:
    """VAL-51: /approval sets conditions, and no certificate."""
    causes = _validate_conditions(new) + _kept(new, old)
    if new.status.certificate != old.status.certificate:
        causes.append(forbidden("status.certificate", "updates may not set certificate content"))
    return causes


def validate_status(new: CertificateSigningRequest, old: CertificateSigningRequest) -> Causes:
    """VAL-51: /status sets the certificate once, and no approval."""
    causes = _validate_conditions(new) + _kept(new, old)
    for kind in (APPROVED, DENIED):
        before, after = _of_type(old, kind), _of_type(new, kind)
        if len(before) != len(after):
            word = "add" if len(after) > len(before) else "remove"
            causes.append(
                forbidden(
                    "status.conditions", f'updates may not {word} a condition of type "{kind}"'
                )
            )
        elif before != after:
            causes.append(
                forbidden(
                    "status.conditions", f'updates may not modify a condition of type "{kind}"'
                )
            )
    if old.status.certificate and new.status.certificate != old.status.certificate:
        causes.append(
            forbidden("status.certificate", "updates may not modify existing certificate content")
        )
    elif new.status.certificate and new.status.certificate != old.status.certificate:
        causes += _validate_certificate(new.status.certificate)
    return causes


def _validate_certificate(text: str) -> Causes:
    """VAL-51: at least one PEM block, and only blocks of certificates."""
    pem = b64decode(text)
    labels = [part.partition(b"-----")[0] for part in pem.split(b"-----BEGIN ")[1:]]
    if not labels:
        return [
            invalid(
                "status.certificate",
                "<certificate data>",
                "must contain at least one CERTIFICATE PEM block",
            )
        ]
    if any(label != b"CERTIFICATE" for label in labels):
        words = "only CERTIFICATE PEM blocks are allowed, found other blocks"
        return [invalid("status.certificate", "<certificate data>", words)]
    return []
