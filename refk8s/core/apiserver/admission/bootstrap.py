"""What every cluster has from its first moment. Rule ADM-12 (spec/admission.md).

The objects are written by whoever starts the API server, each by an ordinary create, namespaces first; an object that is already there
stays as it is.

Source: Kubernetes documentation, "Namespaces" (initial namespaces), "Pod Priority and Preemption" (how to use priority and preemption),
"Using RBAC Authorization" (default roles), "Accessing the Kubernetes API from a Pod".
Left out: the roles of the single components, which nobody asks before there is authorization; flow schemas and priority levels.
"""

from ipaddress import IPv4Address
from typing import Any

from refk8s.core.api.core_v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Namespace,
    Service,
    ServiceAccount,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from refk8s.core.api.discovery_v1 import EndpointPort as SlicePort
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from refk8s.core.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.validation.cluster import SYSTEM_PRIORITIES
from refk8s.core.apiserver.validation.ports import validate_non_special
from refk8s.core.context import Context

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
RBAC_META: dict[str, Any] = {
    "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
}
_USES = {
    "system-node-critical": "Pods that must not be moved away from their node.",
    "system-cluster-critical": "Pods that the cluster needs, on whichever node they run.",
}


def bootstrap_objects(context: Context, address: str, port: int, config: AdmissionConfig | None = None) -> list[Any]:
    """ADM-12: the first objects, in an order in which they can be created. `address`:`port` is where pods reach the API server.

    Without an address that packets can be sent to from elsewhere (on a loopback address, say) the service `kubernetes` has no endpoints.
    """
    config = config or AdmissionConfig()
    objects: list[Any] = [Namespace(metadata=ObjectMeta(name=name)) for name in NAMESPACES]
    objects += [ServiceAccount(metadata=ObjectMeta(name="default", namespace=name)) for name in NAMESPACES]
    objects += [
        PriorityClass(metadata=ObjectMeta(name=name), value=value, description=_USES[name]) for name, value in SYSTEM_PRIORITIES.items()
    ]
    objects.append(ServiceCIDR(metadata=ObjectMeta(name="kubernetes"), spec=ServiceCIDRSpec(cidrs=(str(config.service_cidr),))))
    objects += _administrator()
    objects.append(_kubernetes_service(port, config))
    if not validate_non_special(address, ""):
        objects += _kubernetes_endpoints(address, port)
    return objects


def kubernetes_address(config: AdmissionConfig) -> str:
    """The first address of the services: that of the API server itself."""
    return str(IPv4Address(int(config.service_cidr.network_address) + 1))


def _administrator() -> list[Any]:
    """Everything is allowed to the group system:masters."""
    everything = PolicyRule(api_groups=("*",), resources=("*",), verbs=("*",))
    every_path = PolicyRule(non_resource_urls=("*",), verbs=("*",))
    return [
        ClusterRole(metadata=ObjectMeta(name="cluster-admin", **RBAC_META), rules=(everything, every_path)),
        ClusterRoleBinding(
            metadata=ObjectMeta(name="cluster-admin", **RBAC_META),
            role_ref=RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="cluster-admin"),
            subjects=(Subject(api_group="rbac.authorization.k8s.io", kind="Group", name="system:masters"),),
        ),
    ]


def _kubernetes_service(port: int, config: AdmissionConfig) -> Service:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return Service(
        metadata=ObjectMeta(name="kubernetes", namespace="default", labels=labels),
        spec=ServiceSpec(cluster_ip=kubernetes_address(config), ports=(ServicePort(name="https", port=443, target_port=port),)),
    )


def _kubernetes_endpoints(address: str, port: int) -> list[Any]:
    unmirrored = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    return [
        Endpoints(
            metadata=ObjectMeta(name="kubernetes", namespace="default", labels=unmirrored),
            subsets=(EndpointSubset(addresses=(EndpointAddress(ip=address),), ports=(EndpointPort(name="https", port=port),)),),
        ),
        EndpointSlice(
            metadata=ObjectMeta(name="kubernetes", namespace="default", labels={"kubernetes.io/service-name": "kubernetes"}),
            address_type="IPv4" if "." in address else "IPv6",
            endpoints=(Endpoint(addresses=(address,), conditions=EndpointConditions(ready=True)),),
            ports=(SlicePort(name="https", port=port, protocol="TCP"),),
        ),
    ]
