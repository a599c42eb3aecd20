"""Which reconcilers each component consists of. `refk8s run`, the simulator and the tests all use
this list."""

from collections.abc import Iterable, Mapping

from refk8s.core.apiserver.kubernetes_service import kubernetes_service
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.controllers.attach_detach import AttachDetachController
from refk8s.core.controllers.bootstrap_tokens import BootstrapSigner, TokenCleaner
from refk8s.core.controllers.certificate_approval import CertificateApprover
from refk8s.core.controllers.certificate_cleaner import (
    CertificateCleaner,
    PodCertificateRequestCleaner,
)
from refk8s.core.controllers.certificate_signing import CertificateSigner
from refk8s.core.controllers.claim_binding import ClaimBinder
from refk8s.core.controllers.cluster_role_aggregation import ClusterRoleAggregation
from refk8s.core.controllers.cron_job import CronJobReconciler
from refk8s.core.controllers.daemon_set import DaemonSetReconciler
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.device_taint_eviction import DeviceTaintEviction
from refk8s.core.controllers.disruption import DisruptionController
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoint_slice_mirroring import EndpointSliceMirroringController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.controllers.ephemeral_volume import EphemeralVolume
from refk8s.core.controllers.garbage_collector import GarbageCollector
from refk8s.core.controllers.horizontal_pod_autoscaler import HorizontalPodAutoscalerController
from refk8s.core.controllers.job import JobReconciler
from refk8s.core.controllers.legacy_tokens import LegacyTokenCleaner
from refk8s.core.controllers.namespace import NamespaceController
from refk8s.core.controllers.node_ipam import NodeIPAM, PodRanges
from refk8s.core.controllers.node_lifecycle import NodeLifecycle
from refk8s.core.controllers.node_load_balancer import NodeLoadBalancer
from refk8s.core.controllers.node_ttl import NodeTTL
from refk8s.core.controllers.pod_gc import PodGarbageCollector
from refk8s.core.controllers.protection import (
    AttributesClassProtection,
    ClaimProtection,
    VolumeProtection,
)
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.controllers.replication_controller import ReplicationControllerReconciler
from refk8s.core.controllers.resource_claim import ResourceClaimController
from refk8s.core.controllers.resource_quota import ResourceQuotaController
from refk8s.core.controllers.service_account import (
    RootCertificatePublisher,
    ServiceAccountController,
)
from refk8s.core.controllers.service_cidr import ServiceCIDRController
from refk8s.core.controllers.stateful_set import StatefulSetReconciler
from refk8s.core.controllers.taint_eviction import TaintEviction
from refk8s.core.controllers.token_secrets import TokenSecretController
from refk8s.core.controllers.ttl_after_finished import TTLAfterFinished
from refk8s.core.controllers.volume_phase import VolumePhase
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.kubelet import kubelet
from refk8s.core.loop.elector import Elector
from refk8s.core.loop.lease_lock import ElectionConfig
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.machine import AnyMachine, server_machine_name
from refk8s.core.network.dns_machine import dns
from refk8s.core.network.node_network_machine import node_network
from refk8s.core.network.policy_machine import network_policy
from refk8s.core.network.proxy import proxy
from refk8s.core.ports.certificates import CertificateAuthority
from refk8s.core.scheduler.cycle import scheduler

CONTROLLER_MANAGER = "kube-controller-manager"


def controllers(
    certificate: str = "",
    pod_ranges: PodRanges | None = None,
    authorities: Mapping[str, CertificateAuthority] | None = None,
    load_balancers: bool = True,
) -> tuple[Reconciler, ...]:
    """Every controller of the controller manager. `certificate`: the cluster's authority, in PEM.
    `pod_ranges`: None if Nodes get no podCIDR, and serve no load balancers. `load_balancers`:
    whether they do otherwise. `authorities`: sign certificates, by the names of the signers;
    without them no controller does (TRUST-7)."""
    addresses = (NodeIPAM(pod_ranges),) if pod_ranges is not None else ()
    balancers = (NodeLoadBalancer(),) if pod_ranges is not None and load_balancers else ()
    signers = (CertificateSigner(authorities),) if authorities else ()
    return (
        *signers,
        DeploymentReconciler(),
        ReplicaSetReconciler(),
        ReplicationControllerReconciler(),
        JobReconciler(),
        StatefulSetReconciler(),
        DaemonSetReconciler(),
        CronJobReconciler(),
        TTLAfterFinished(),
        HorizontalPodAutoscalerController(),
        EndpointsController(),
        EndpointSliceController(),
        EndpointSliceMirroringController(),
        NamespaceController(),
        GarbageCollector(),
        NodeLifecycle(),
        NodeTTL(),
        TaintEviction(),
        PodGarbageCollector(),
        DisruptionController(),
        ResourceQuotaController(),
        ServiceAccountController(),
        RootCertificatePublisher(certificate),
        TokenSecretController(certificate),
        LegacyTokenCleaner(),
        ClaimProtection(),
        VolumeProtection(),
        AttributesClassProtection(),
        ClaimBinder(),
        VolumePhase(),
        EphemeralVolume(),
        AttachDetachController(),
        ResourceClaimController(),
        DeviceTaintEviction(),
        ServiceCIDRController(),
        ClusterRoleAggregation(),
        TokenCleaner(),
        BootstrapSigner(),
        *addresses,
        *balancers,
        CertificateApprover(),
        CertificateCleaner(),
        PodCertificateRequestCleaner(),
    )


def controller_manager(
    certificate: str = "",
    pod_ranges: PodRanges | None = None,
    authorities: Mapping[str, CertificateAuthority] | None = None,
    load_balancers: bool = True,
) -> Loop:
    """One component with all controllers. As upstream, they share one view, and crash together."""
    reconcilers = controllers(certificate, pod_ranges, authorities, load_balancers)
    return Loop(CONTROLLER_MANAGER, reconcilers, component="controllermanager")


def with_leader_election(
    loop: Loop, host: str, config: ElectionConfig | None = None, name: str = ""
) -> Elector:
    """The component, which runs only while its instance holds the Lease of its name (ELECT-1).

    The identity of the instance begins with `host`. `name` distinguishes the instances of one
    cluster.
    """
    source = loop.name if loop.name == CONTROLLER_MANAGER else loop.component
    return Elector(loop, config or ElectionConfig(loop.name), host, loop.user, source, name)


def kubelet_name(node: str) -> str:
    """The name of a node's kubelet among the machines."""
    return f"kubelet/{node}"


def control_plane(
    certificate: str = "",
    instances: int = 1,
    pod_ranges: PodRanges | None = None,
    authorities: Mapping[str, CertificateAuthority] | None = None,
    load_balancers: bool = True,
    scheduling: Loop | None = None,
) -> dict[str, AnyMachine]:
    """The components besides the API server that are not on every node, by name.

    Several instances of each run behind a leader election. One runs without, as in `refk8s run`.
    `scheduling`: the scheduler, if not one with the default profile.
    """
    manager = controller_manager(certificate, pod_ranges, authorities, load_balancers)
    loops = (manager, scheduling if scheduling is not None else scheduler())
    if instances == 1:
        return {loop.name: loop for loop in loops}
    found: dict[str, AnyMachine] = {}
    for number in range(1, instances + 1):
        for loop in loops:
            name = loop.name if number == 1 else f"{loop.name}-{number}"
            found[name] = with_leader_election(loop, f"host-{number}", name=name)
    return found


def network_machine(name: str) -> AnyMachine:
    """The component that makes routes to the pods of other nodes, if the node has such routes."""
    return node_network(name)


def node_machines(name: str, config: KubeletConfig) -> tuple[AnyMachine, ...]:
    """The components of one node, by name."""
    return (kubelet(name, config), proxy(name))


def policy_machine(name: str) -> AnyMachine:
    """The component that enforces network policies on one node, if its pods have a network."""
    return network_policy(name)


def server_machines(servers: Iterable[Server]) -> dict[str, AnyMachine]:
    """The machines that run in these API servers, by name, in the order of their numbers."""
    found: dict[str, AnyMachine] = {}
    for number, server in enumerate(servers):
        name = server_machine_name(number)
        found[name] = kubernetes_service(server, f"host-{number}", str(number), name=name)
    return found


def machines(
    nodes: Iterable[tuple[str, KubeletConfig]],
    instances: int = 1,
    pod_ranges: PodRanges | None = None,
) -> dict[str, AnyMachine]:
    """All components of a cluster with these nodes and one name server, by name. Nodes with ranges
    have routes to each other.

    `instances` and `pod_ranges` as in `control_plane`.
    """
    found = control_plane(instances=instances, pod_ranges=pod_ranges) | {"dns": dns()}
    for name, config in nodes:
        found |= {machine.name: machine for machine in node_machines(name, config)}
        if pod_ranges is not None:
            network = network_machine(name)
            found[network.name] = network
    return found
