"""Fields that an API version no longer has are dropped, and redundant ones are made equal. Rule
ADM-23 (spec/admission.md).

Source: Kubernetes API reference, "PersistentVolumeClaim" (dataSource, dataSourceRef),
"EndpointSlice" (deprecatedTopology), "Node" (configSource, podCIDR), "ServiceAccount" (secrets).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    Node,
    ObjectReference,
    PersistentVolumeClaim,
    ServiceAccount,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.request import Request
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context

_DATA_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def drop_data_source(
    request: Request, new: PersistentVolumeClaim, old: Any, store: Reader, context: Context
) -> PersistentVolumeClaim:
    """ADM-23: dataSource is a claim or a snapshot, and dataSourceRef is in the claim's namespace;
    if one of them is set, both get its value."""
    source, reference = new.spec.data_source, new.spec.data_source_ref
    if source is None and reference is None:
        return new
    if source is not None and (source.api_group or "", source.kind) not in _DATA_SOURCES:
        source = None
    if reference is not None and reference.namespace is not None:
        reference = None
    if source is not None and reference is None:
        reference = TypedObjectReference(
            api_group=source.api_group, kind=source.kind, name=source.name
        )
    elif reference is not None and source is None:
        source = TypedLocalObjectReference(
            api_group=reference.api_group, kind=reference.kind, name=reference.name
        )
    return replace(new, spec=replace(new.spec, data_source=source, data_source_ref=reference))


def drop_secret_fields(
    request: Request, new: ServiceAccount, old: Any, store: Reader, context: Context
) -> ServiceAccount:
    """ADM-23: a reference to a Secret of a ServiceAccount has only its name."""
    secrets = new.secrets or ()
    named = tuple([ObjectReference(name=one.name) for one in secrets])
    return new if named == secrets else replace(new, secrets=named)


def drop_topology(
    request: Request, new: EndpointSlice, old: EndpointSlice | None, store: Reader, context: Context
) -> EndpointSlice:
    """ADM-23: in v1, nodeName and zone replace the map of v1beta1."""
    if all(endpoint.deprecated_topology is None for endpoint in new.endpoints or ()):
        return new
    return replace(
        new,
        endpoints=tuple(
            [replace(endpoint, deprecated_topology=None) for endpoint in new.endpoints or ()]
        ),
    )


def drop_node_config(
    request: Request, new: Node, old: Node | None, store: Reader, context: Context
) -> Node:
    """ADM-23: a node no longer has a configSource, unless the stored one has. If podCIDR and the
    first of podCIDRs differ, podCIDR is used."""
    spec, status = new.spec, new.status
    if spec.pod_cidr and spec.pod_cidrs and spec.pod_cidrs[0] != spec.pod_cidr:
        spec = replace(spec, pod_cidrs=(spec.pod_cidr,))
    kept = old is not None and (old.spec.config_source is not None or old.status.config is not None)
    if not kept and (spec.config_source is not None or status.config is not None):
        spec, status = replace(spec, config_source=None), replace(status, config=None)
    return (
        new if spec is new.spec and status is new.status else replace(new, spec=spec, status=status)
    )
