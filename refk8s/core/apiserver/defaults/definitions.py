"""Defaults of CustomResourceDefinitions. Rule DEF-23 (spec/defaults.md)."""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apiextensions_v1 import CustomResourceConversion, CustomResourceDefinition

WEBHOOK_PORT = 443


def default_custom_resource_definition(obj: CustomResourceDefinition) -> Any:
    """The singular and the list kind follow from the kind; without a conversion, versions differ in
    apiVersion alone."""
    spec, names = obj.spec, obj.spec.names
    changes: dict[str, Any] = {}
    if not names.singular or not names.list_kind:
        changes["names"] = replace(
            names,
            singular=names.singular or names.kind.lower() or None,
            list_kind=names.list_kind or (names.kind + "List" if names.kind else None),
        )
    conversion = spec.conversion
    if conversion is None:
        changes["conversion"] = CustomResourceConversion(strategy="None")
    elif conversion.webhook is not None and conversion.webhook.client_config is not None:
        client = conversion.webhook.client_config
        if client.service is not None and client.service.port is None:
            service = replace(client.service, port=WEBHOOK_PORT)
            webhook = replace(conversion.webhook, client_config=replace(client, service=service))
            changes["conversion"] = replace(conversion, webhook=webhook)
    return replace(obj, spec=replace(spec, **changes)) if changes else obj
