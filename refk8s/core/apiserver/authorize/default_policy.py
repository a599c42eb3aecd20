"""The objects of the default roles and bindings, and what corrects them at a start. Rule RBAC-6
(spec/authorization.md).

Source: Kubernetes documentation, "Using RBAC Authorization" (default roles and role bindings,
auto-reconciliation); kubeadm documentation, "Implementation details" (the bindings that are named
`kubeadm:`).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.rbac_v1 import (
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from refk8s.core.apiserver.authorize.controller_roles import CONTROLLER_ROLES, EVENTS, Grants
from refk8s.core.apiserver.authorize.default_roles import (
    AGGREGATED,
    AGGREGATING,
    BINDINGS,
    CLUSTER_ROLES,
    PATHS,
    ROLES,
)
from refk8s.core.apiserver.authorize.rules import missing_rules

GROUP: Final = "rbac.authorization.k8s.io"
AGGREGATE_TO: Final = f"{GROUP}/aggregate-to-"
AUTO_UPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
LABELS: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS: Final = {AUTO_UPDATE: "true"}
READER: Final = "extension-apiserver-authentication-reader"
BOOTSTRAPPERS: Final = "Group system:bootstrappers:kubeadm:default-node-token"

WITHDRAWN: Final = (
    (resources.CLUSTER_ROLE_BINDINGS, "refk8s:look-ups"),
    (resources.CLUSTER_ROLES, "refk8s:look-ups"),
)
"""Our own roles and bindings of earlier versions. They are deleted at a start, since they allow more
than a component needs."""
NETWORK_POLICY: Final = "refk8s:network-policy"
OF_NODES: Final = "refk8s:nodes"
_OF_KUBEADM: Final = {
    # a binding of kubeadm, or one of ours -> (its cluster role, its subjects)
    "kubeadm:cluster-admins": ("cluster-admin", ("Group kubeadm:cluster-admins",)),
    "kubeadm:get-nodes": ("kubeadm:get-nodes", (BOOTSTRAPPERS,)),
    "kubeadm:kubelet-bootstrap": ("system:node-bootstrapper", (BOOTSTRAPPERS,)),
    "kubeadm:node-autoapprove-bootstrap": (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        (BOOTSTRAPPERS,),
    ),
    "kubeadm:node-autoapprove-certificate-rotation": (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        ("Group system:nodes",),
    ),
    "kubeadm:node-proxier": ("system:node-proxier", ("ServiceAccount kube-proxy",)),
    NETWORK_POLICY: (
        NETWORK_POLICY,
        (
            "ServiceAccount network-policy",
            "Group system:nodes",
            "User system:kube-proxy",  # of `refk8s proxy`
        ),
    ),
    OF_NODES: (OF_NODES, ("Group system:nodes",)),
    # TRUST-9
    "refk8s:kubelet-serving-approver": (
        "system:certificates.k8s.io:kubelet-serving-approver",
        ("ServiceAccount certificate-controller",),
    ),
    "system:coredns": ("system:coredns", ("ServiceAccount coredns",)),
}
_CLUSTER_ROLES_OF_KUBEADM: Final[dict[str, Grants]] = {
    "kubeadm:get-nodes": (("get", "core", "nodes"),),
    # The machine that enforces network policies on a node (POLICY-1).
    NETWORK_POLICY: (
        EVENTS,
        ("list watch", "core", "namespaces pods"),
        ("list watch", "networking.k8s.io", "networkpolicies"),
    ),
    # The proxy, the name server and the routes of a node that has joined use the certificate of its
    # kubelet (TRUST-12), which also authenticates the request for its serving certificate
    # (TRUST-9).
    OF_NODES: (
        ("list watch", "core", "endpoints namespaces nodes services"),
        ("list watch", "discovery.k8s.io", "endpointslices"),
        ("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeserver"),
    ),
    "system:coredns": (
        ("list watch", "core", "endpoints services pods namespaces"),
        ("get", "core", "nodes"),
        ("list watch", "discovery.k8s.io", "endpointslices"),
    ),
}
_ROLES_OF_KUBEADM: Final[dict[tuple[str, str], tuple[Grants, tuple[str, ...]]]] = {
    ("kube-public", "kubeadm:bootstrap-signer-clusterinfo"): (
        (("get", "core", "configmaps", "cluster-info"),),
        ("User system:anonymous",),
    ),
    # The name server of each node writes its own slice of the service kube-dns (DNS-19).
    ("kube-system", "refk8s:name-server"): (
        (
            ("get", "core", "services"),
            ("create delete get update", "discovery.k8s.io", "endpointslices"),
        ),
        ("ServiceAccount coredns", "Group system:nodes"),
    ),
}


def default_policy() -> list[Any]:
    """All default roles and bindings."""
    default = _meta(LABELS, ANNOTATIONS)
    plain = _meta(None, None)
    objects: list[Any] = []
    for name, grants in CLUSTER_ROLES.items():
        rules = rules_of_grants(grants)
        if name == "cluster-admin":
            rules += (PolicyRule(verbs=("*",), non_resource_urls=("*",)),)
        objects.append(ClusterRole(metadata=default(name), rules=rules))
    for name, paths in PATHS.items():
        rule = PolicyRule(verbs=("get",), non_resource_urls=tuple(paths.split()))
        objects.append(ClusterRole(metadata=default(name), rules=(rule,)))
    for name, (label, grants) in AGGREGATED.items():
        to = _meta({**LABELS, AGGREGATE_TO + label: "true"}, ANNOTATIONS)
        objects.append(ClusterRole(metadata=to(name), rules=rules_of_grants(grants)))
    for name, label in AGGREGATING.items():
        labels = {**LABELS, AGGREGATE_TO + label: "true"} if label else LABELS
        selector = LabelSelector(match_labels={AGGREGATE_TO + name: "true"})
        objects.append(
            ClusterRole(
                metadata=_meta(labels, ANNOTATIONS)(name),
                aggregation_rule=AggregationRule(cluster_role_selectors=(selector,)),
            )
        )
    for name, subjects in BINDINGS.items():
        objects.append(_cluster_binding(default(name), name, subjects))
    for account, grants in CONTROLLER_ROLES.items():
        name = f"system:controller:{account}"
        objects.append(ClusterRole(metadata=default(name), rules=rules_of_grants(grants)))
        objects.append(_cluster_binding(default(name), name, (f"ServiceAccount {account}",)))
    objects += _in_namespaces(default, ROLES)
    users = ("User system:kube-controller-manager", "User system:kube-scheduler")
    objects.append(_binding(default(f"system::{READER}", "kube-system"), READER, users))
    for name, grants in _CLUSTER_ROLES_OF_KUBEADM.items():
        objects.append(ClusterRole(metadata=plain(name), rules=rules_of_grants(grants)))
    for name, (role, subjects) in _OF_KUBEADM.items():
        objects.append(_cluster_binding(plain(name), role, subjects))
    objects += _in_namespaces(plain, _ROLES_OF_KUBEADM)
    return objects


_Meta = Callable[..., ObjectMeta]


def _meta(labels: dict[str, str] | None, annotations: dict[str, str] | None) -> _Meta:
    def metadata(name: str, namespace: str | None = None) -> ObjectMeta:
        return ObjectMeta(name=name, namespace=namespace, labels=labels, annotations=annotations)

    return metadata


def _in_namespaces(
    metadata: _Meta, roles: dict[tuple[str, str], tuple[Grants, tuple[str, ...]]]
) -> Iterable[Any]:
    for (namespace, name), (grants, subjects) in roles.items():
        yield Role(metadata=metadata(name, namespace), rules=rules_of_grants(grants))
        if subjects:
            yield _binding(metadata(name, namespace), name, subjects)


def rules_of_grants(grants: Grants) -> tuple[PolicyRule, ...]:
    """The rules that these words mean."""
    found = []
    for verbs, groups, kinds, *names in grants:
        found.append(
            PolicyRule(
                verbs=tuple(verbs.split()),
                api_groups=tuple(["" if one == "core" else one for one in groups.split()]),
                resources=tuple(sorted(kinds.split())),
                resource_names=tuple(names[0].split()) if names else None,
            )
        )
    return tuple(found)


def _cluster_binding(
    metadata: ObjectMeta, role: str, subjects: tuple[str, ...]
) -> ClusterRoleBinding:
    return ClusterRoleBinding(
        metadata=metadata,
        role_ref=RoleRef(api_group=GROUP, kind="ClusterRole", name=role),
        subjects=_subjects(subjects),
    )


def _binding(metadata: ObjectMeta, role: str, subjects: tuple[str, ...]) -> RoleBinding:
    return RoleBinding(
        metadata=metadata,
        role_ref=RoleRef(api_group=GROUP, kind="Role", name=role),
        subjects=_subjects(subjects),
    )


def _subjects(words: tuple[str, ...]) -> tuple[Subject, ...] | None:
    found = []
    for kind, name in (each.split(" ", 1) for each in words):
        if kind == "ServiceAccount":
            found.append(Subject(kind=kind, name=name, namespace="kube-system"))
        else:
            found.append(Subject(kind=kind, api_group=GROUP, name=name))
    return tuple(found) or None


# --- correction at a start


def corrected(found: Any, wanted: Any) -> Any | None:
    """The object with everything that the default has: its labels and annotations, and its rules or
    subjects. None if it has them, or if its annotation autoupdate is not "true". What an
    administrator has added is kept. A binding to another role is not corrected: see
    `is_to_be_replaced`."""
    annotations = found.metadata.annotations or {}
    if annotations.get(AUTO_UPDATE, "true") != "true" or not wanted.metadata.annotations:
        return None
    metadata = replace(
        found.metadata,
        labels={**(wanted.metadata.labels or {}), **(found.metadata.labels or {})},
        annotations={**(wanted.metadata.annotations or {}), **annotations},
    )
    fresh = replace(found, metadata=metadata)
    if isinstance(wanted, ClusterRole | Role):
        if isinstance(wanted, ClusterRole) and wanted.aggregation_rule is not None:
            have = fresh.aggregation_rule
            selectors = have.cluster_role_selectors or () if have is not None else ()
            missing = tuple(
                one
                for one in wanted.aggregation_rule.cluster_role_selectors or ()
                if one not in selectors
            )
            rule = AggregationRule(cluster_role_selectors=selectors + missing)
            fresh = replace(fresh, aggregation_rule=rule) if missing else fresh
        lacking = missing_rules(found.rules or (), wanted.rules or ())
        if lacking:
            fresh = replace(fresh, rules=(*(found.rules or ()), *lacking))
    else:
        subjects = found.subjects or ()
        more = tuple(one for one in wanted.subjects or () if one not in subjects)
        fresh = replace(fresh, subjects=subjects + more) if more else fresh
    return None if fresh == found else fresh


def is_to_be_replaced(found: Any, wanted: Any) -> bool:
    """Whether a default binding names another role. As upstream, it is deleted and created again,
    because a roleRef is immutable."""
    annotations = found.metadata.annotations or {}
    return (
        isinstance(wanted, ClusterRoleBinding | RoleBinding)
        and found.role_ref != wanted.role_ref
        and annotations.get(AUTO_UPDATE, "true") == "true"
        and bool(wanted.metadata.annotations)
    )
