"""Defaults of network policies and ingress classes. Rule DEF-19 (spec/defaults.md).

Source: Kubernetes documentation, "Network Policies", "Ingress".
"""

from msgspec.structs import replace

from refk8s.core.api.networking_v1 import IngressClass, NetworkPolicy, NetworkPolicyPort


def default_network_policy(policy: NetworkPolicy) -> NetworkPolicy:
    """DEF-19: the policy applies to ingress, and to egress if it has egress rules; ports are
    TCP."""
    spec = policy.spec
    types = spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))
    ingress = spec.ingress and tuple(
        [replace(rule, ports=_default_ports(rule.ports)) for rule in spec.ingress]
    )
    egress = spec.egress and tuple(
        [replace(rule, ports=_default_ports(rule.ports)) for rule in spec.egress]
    )
    fresh = replace(spec, policy_types=types, ingress=ingress, egress=egress)
    return policy if fresh == spec else replace(policy, spec=fresh)


def _default_ports(
    ports: tuple[NetworkPolicyPort, ...] | None,
) -> tuple[NetworkPolicyPort, ...] | None:
    return ports and tuple(
        [port if port.protocol is not None else replace(port, protocol="TCP") for port in ports]
    )


def default_ingress_class(ingress_class: IngressClass) -> IngressClass:
    """DEF-19: its parameters refer to a cluster-scoped object."""
    parameters = ingress_class.spec.parameters
    if parameters is None or parameters.scope is not None:
        return ingress_class
    return replace(
        ingress_class,
        spec=replace(ingress_class.spec, parameters=replace(parameters, scope="Cluster")),
    )
