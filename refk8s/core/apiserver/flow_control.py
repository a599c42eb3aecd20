"""The flow schemas and priority levels that every cluster has. Rules ADM-12, VAL-68
(spec/admission.md, spec/validation.md).

The mandatory ones have fixed specs, which no client may change. The suggested ones are created once
and belong to the administrator then. Source: Kubernetes documentation, "API Priority and Fairness"
(mandatory and suggested configuration objects).
"""

from typing import Any, Final

from refk8s.core.api.flowcontrol_v1 import (
    ExemptPriorityLevelConfiguration,
    FlowDistinguisherMethod,
    FlowSchema,
    FlowSchemaSpec,
    GroupSubject,
    LimitedPriorityLevelConfiguration,
    LimitResponse,
    NonResourcePolicyRule,
    PolicyRulesWithSubjects,
    PriorityLevelConfiguration,
    PriorityLevelConfigurationReference,
    PriorityLevelConfigurationSpec,
    QueuingConfiguration,
    ResourcePolicyRule,
    ServiceAccountSubject,
    Subject,
    UserSubject,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.user import AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED

ANY: Final = "*"
EXEMPT, CATCH_ALL = "exempt", "catch-all"
AUTO_UPDATE: Final = "apf.kubernetes.io/autoupdate-spec"
QUEUE_LENGTH_LIMIT: Final = 50
_BY_USER, _BY_NAMESPACE = "ByUser", "ByNamespace"
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
_LEASES: Final = "coordination.k8s.io"


# --- priority levels ------------------------------------------------------------------------------

MANDATORY_LEVELS: Final = {
    EXEMPT: PriorityLevelConfigurationSpec(
        type="Exempt",
        exempt=ExemptPriorityLevelConfiguration(nominal_concurrency_shares=0, lendable_percent=0),
    ),
    CATCH_ALL: PriorityLevelConfigurationSpec(
        type="Limited",
        limited=LimitedPriorityLevelConfiguration(
            nominal_concurrency_shares=5,
            lendable_percent=0,
            limit_response=LimitResponse(type="Reject"),
        ),
    ),
}
"""By name. The numbers of the exempt one may be changed."""

_LEVELS: Final = {
    # name -> (shares, percentage that others may borrow, queues, hand size)
    "system": (30, 33, 64, 6),
    "node-high": (40, 25, 64, 6),
    "leader-election": (10, 0, 16, 4),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}


def _level(shares: int, lendable: int, queues: int, hand: int) -> PriorityLevelConfigurationSpec:
    queuing = QueuingConfiguration(
        queues=queues, hand_size=hand, queue_length_limit=QUEUE_LENGTH_LIMIT
    )
    limited = LimitedPriorityLevelConfiguration(
        nominal_concurrency_shares=shares,
        lendable_percent=lendable,
        limit_response=LimitResponse(type="Queue", queuing=queuing),
    )
    return PriorityLevelConfigurationSpec(type="Limited", limited=limited)


# --- flow schemas ---------------------------------------------------------------------------------


def _groups(*names: str) -> tuple[Subject, ...]:
    return tuple([Subject(kind="Group", group=GroupSubject(name=name)) for name in names])


def _users(*names: str) -> tuple[Subject, ...]:
    return tuple([Subject(kind="User", user=UserSubject(name=name)) for name in names])


def _accounts(*names: str) -> tuple[Subject, ...]:
    """Service accounts of kube-system."""
    return tuple(
        [
            Subject(
                kind="ServiceAccount",
                service_account=ServiceAccountSubject(namespace="kube-system", name=name),
            )
            for name in names
        ]
    )


def _resources(
    verbs: str, group: str, resources: str, cluster_scope: bool | None = None
) -> ResourcePolicyRule:
    return ResourcePolicyRule(
        verbs=tuple(verbs.split()),
        api_groups=(group,),
        resources=tuple(resources.split()),
        cluster_scope=cluster_scope,
        namespaces=(ANY,),
    )


def _rule(subjects: tuple[Subject, ...], *resources: ResourcePolicyRule) -> PolicyRulesWithSubjects:
    """These requests of the subjects; all of them without resources."""
    if resources:
        return PolicyRulesWithSubjects(subjects=subjects, resource_rules=resources)
    urls = NonResourcePolicyRule(verbs=(ANY,), non_resource_urls=(ANY,))
    return PolicyRulesWithSubjects(
        subjects=subjects,
        resource_rules=(_resources(ANY, ANY, ANY, True),),
        non_resource_rules=(urls,),
    )


def _schema(
    level: str, precedence: int, distinguisher: str, rule: PolicyRulesWithSubjects
) -> FlowSchemaSpec:
    return FlowSchemaSpec(
        priority_level_configuration=PriorityLevelConfigurationReference(name=level),
        matching_precedence=precedence,
        distinguisher_method=FlowDistinguisherMethod(type=distinguisher) if distinguisher else None,
        rules=(rule,),
    )


_EVERYBODY: Final = _groups(UNAUTHENTICATED, AUTHENTICATED)
_PROBES: Final = PolicyRulesWithSubjects(
    subjects=_EVERYBODY,
    non_resource_rules=(
        NonResourcePolicyRule(verbs=("get",), non_resource_urls=("/healthz", "/readyz", "/livez")),
    ),
)
_ELECTION: Final = _resources("get create update", _LEASES, "leases")

MANDATORY_SCHEMAS: Final = {
    EXEMPT: _schema(EXEMPT, 1, "", _rule(_groups(MASTERS))),
    CATCH_ALL: _schema(CATCH_ALL, 10_000, _BY_USER, _rule(_EVERYBODY)),
}

_SCHEMAS: Final = {
    "probes": _schema(EXEMPT, 2, "", _PROBES),
    "system-leader-election": _schema(
        "leader-election", 100, _BY_USER, _rule(_users(_MANAGER, _SCHEDULER), _ELECTION)
    ),
    "endpoint-controller": _schema(
        "workload-high",
        150,
        _BY_USER,
        _rule(
            _users(_MANAGER)
            + _accounts("endpoint-controller", "endpointslicemirroring-controller"),
            _resources("get create update", "", "endpoints"),
        ),
    ),
    "workload-leader-election": _schema(
        "leader-election", 200, _BY_USER, _rule(_accounts(ANY), _ELECTION)
    ),
    "system-node-high": _schema(
        "node-high",
        400,
        _BY_USER,
        _rule(
            _groups(NODES),
            _resources(ANY, "", "nodes nodes/status", True),
            _resources(ANY, _LEASES, "leases"),
        ),
    ),
    "system-nodes": _schema("system", 500, _BY_USER, _rule(_groups(NODES))),
    "kube-controller-manager": _schema(
        "workload-high", 800, _BY_NAMESPACE, _rule(_users(_MANAGER))
    ),
    "kube-scheduler": _schema("workload-high", 800, _BY_NAMESPACE, _rule(_users(_SCHEDULER))),
    "kube-system-service-accounts": _schema(
        "workload-high", 900, _BY_NAMESPACE, _rule(_accounts(ANY))
    ),
    "service-accounts": _schema("workload-low", 9_000, _BY_USER, _rule(_groups(SERVICE_ACCOUNTS))),
    "global-default": _schema("global-default", 9_900, _BY_USER, _rule(_EVERYBODY)),
}


def default_flow_control() -> list[Any]:
    """All mandatory and suggested objects."""
    levels = MANDATORY_LEVELS | {name: _level(*numbers) for name, numbers in _LEVELS.items()}
    schemas = MANDATORY_SCHEMAS | _SCHEMAS
    return [
        *(PriorityLevelConfiguration(metadata=_metadata(n), spec=s) for n, s in levels.items()),
        *(FlowSchema(metadata=_metadata(n), spec=s) for n, s in schemas.items()),
    ]


def _metadata(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, annotations={AUTO_UPDATE: "true"})
