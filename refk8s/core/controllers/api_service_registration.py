"""The APIServices of custom resources. Rule APISVC-4 (spec/api_services.md).

| the APIService | what the controller does |
|---|---|
| absent, and a definition serves this version of its group | creates it |
| it manages it, and its spec differs | updates it |
| it manages it, and no definition serves this version any more | deletes it |
| it does not manage it | nothing |

The API server runs it, as upstream. Source: Kubernetes documentation, "Kubernetes API Aggregation
Layer"; upstream's controllers autoregister and crdregistration.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apiregistration_v1 import APIService, APIServiceSpec
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS
from refk8s.core.api.user import API_SERVER
from refk8s.core.context import Instant
from refk8s.core.loop.custom import by_group
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View

AUTOMANAGED, ALWAYS = "kube-aggregator.kubernetes.io/automanaged", "true"
GROUP_PRIORITY, VERSION_PRIORITY = 1_000, 100


def _versions(view: View, old: Any | None, new: Any | None) -> list[Key]:
    """The APIServices of all versions of a changed definition."""
    return list(
        dict.fromkeys(
            f"{version.name}.{crd.spec.group}"
            for crd in (old, new)
            if crd is not None
            for version in crd.spec.versions
        )
    )


class ApiServiceRegistration(Reconciler):
    """Reconciles one APIService with the definitions of its group."""

    name = "api-service-registration"
    user = API_SERVER
    interests = (
        Interest(CUSTOM_RESOURCE_DEFINITIONS, _versions),
        Interest(API_SERVICES, own_key),
    )
    indexes = (by_group(),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        version, _, group = key.partition(".")
        found: APIService | None = view.get(API_SERVICES, key)
        is_served = any(
            one.name == version and one.served
            for crd in view.indexed(CUSTOM_RESOURCE_DEFINITIONS, "group", group)
            for one in crd.spec.versions
        )

        # Decide
        spec = APIServiceSpec(
            group=group,
            version=version,
            group_priority_minimum=GROUP_PRIORITY,
            version_priority=VERSION_PRIORITY,
        )
        if found is None and is_served:
            return _create(key, spec)
        if found is None or (found.metadata.labels or {}).get(AUTOMANAGED) != ALWAYS:
            return NOTHING
        if is_served and found.spec == spec:
            return NOTHING

        # Act
        return _update(found, spec) if is_served else _delete(found)


def _create(name: Key, spec: APIServiceSpec) -> Plan:
    body = APIService(metadata=ObjectMeta(name=name, labels={AUTOMANAGED: ALWAYS}), spec=spec)
    because = "a definition serves this version"
    return Plan(((Request("create", API_SERVICES, "", name, body=body, because=because),),))


def _update(found: APIService, spec: APIServiceSpec) -> Plan:
    name, body = found.metadata.name or "", replace(found, spec=spec)
    because = "a definition serves this version"
    return Plan(((Request("update", API_SERVICES, "", name, body=body, because=because),),))


def _delete(found: APIService) -> Plan:
    name = found.metadata.name or ""
    options = DeleteOptions(preconditions=Preconditions(uid=found.metadata.uid))
    because = "no definition serves this version"
    return Plan(((Request("delete", API_SERVICES, "", name, body=options, because=because),),))
