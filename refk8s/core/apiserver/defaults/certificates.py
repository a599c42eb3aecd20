"""Defaults of requests of pods for certificates. Rule DEF-32 (spec/defaults.md).

Source: API reference, "PodCertificateRequest".
"""

from msgspec.structs import replace

from refk8s.core.api.certificates_v1 import PodCertificateRequest

MAX_EXPIRATION_SECONDS = 86_400


def default_pod_request(request: PodCertificateRequest) -> PodCertificateRequest:
    """DEF-32: the certificate is valid for a day."""
    if request.spec.max_expiration_seconds is not None:
        return request
    spec = replace(request.spec, max_expiration_seconds=MAX_EXPIRATION_SECONDS)
    return replace(request, spec=spec)
