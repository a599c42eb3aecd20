"""Defaults of APIServices. Rule APISVC-2 (spec/api_services.md).

Source: Kubernetes API reference, "APIService".
"""

from msgspec.structs import replace

from refk8s.core.api.apiregistration_v1 import APIService
from refk8s.core.apiserver.defaults.definitions import WEBHOOK_PORT


def default_api_service(obj: APIService) -> APIService:
    """APISVC-2: the port of a service is 443."""
    service = obj.spec.service
    if service is None or service.port is not None:
        return obj
    return replace(obj, spec=replace(obj.spec, service=replace(service, port=WEBHOOK_PORT)))
