"""Pods and pod templates. Rules VAL-7 to VAL-18 (spec/validation.md).

Source: Kubernetes API reference, "Pod", "PodSpec"; documentation, "Pod Lifecycle", "DNS for
Services and Pods". Left out: nothing.
"""

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    Container,
    Pod,
    PodDNSConfig,
    PodSpec,
    PodTemplate,
    PodTemplateSpec,
    ResourceRequirements,
)
from refk8s.core.api.status import show
from refk8s.core.apiserver.validation.container import (
    RESTART_POLICIES,
    PodFacts,
    validate_containers,
    validate_ephemeral_containers,
    validate_image_is_trimmed,
    validate_init_containers,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
)
from refk8s.core.apiserver.validation.metadata import validate_annotations, validate_labels
from refk8s.core.apiserver.validation.mounts import Volumes
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain, qualified_name
from refk8s.core.apiserver.validation.pod_annotations import (
    validate_pod_annotations,
    validate_pod_annotations_update,
)
from refk8s.core.apiserver.validation.pod_resources import validate_pod_resources
from refk8s.core.apiserver.validation.ports import validate_address
from refk8s.core.apiserver.validation.resources import validate_requirements
from refk8s.core.apiserver.validation.scheduling import (
    validate_affinity,
    validate_gates,
    validate_spread,
    validate_tolerations,
)
from refk8s.core.apiserver.validation.security import (
    validate_pod_security,
    validate_process_namespace,
)
from refk8s.core.apiserver.validation.volume import validate_volumes
from refk8s.core.apiserver.validation.windows import validate_host_process, validate_system
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import every_container

DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
DEADLINE_MAX = 2**31 - 1
HOSTNAME_MAX = 64
NAMESERVERS_MAX, SEARCHES_MAX, SEARCH_CHARACTERS_MAX = 3, 32, 2048


def validate_pod(pod: Pod) -> Causes:
    """A new pod, beyond its metadata."""
    if any(volume.ephemeral is not None for volume in pod.spec.volumes or ()):
        # the names of the claims follow from that of the pod
        return _validate_own_spec(pod.spec, pod.metadata.name or "")
    return list(_causes_of(pod.spec))


@remember_identical(16)
def _causes_of(spec: PodSpec) -> Causes:
    """The causes of a spec that does not depend on the name of its pod: pods of one template have
    the same. Checking the spec takes 30 µs."""
    return _validate_own_spec(spec, "")


def _validate_own_spec(spec: PodSpec, name: str) -> Causes:
    causes = validate_pod_spec(spec, "spec", True, name)
    if not spec.service_account_name and spec.volumes:
        for position, volume in enumerate(spec.volumes):
            if volume.projected is not None:
                for number, source in enumerate(volume.projected.sources or ()):
                    if source.service_account_token is not None:
                        where = f"spec.volumes[{position}].projected.sources[{number}].serviceAccountToken"
                        causes.append(
                            forbidden(
                                where, "must not be specified when serviceAccountName is not set"
                            )
                        )
    for position, container in enumerate(spec.containers):
        causes += validate_image_is_trimmed(container, f"spec.containers[{position}]")
    for position, container in enumerate(spec.init_containers or ()):
        causes += validate_image_is_trimmed(container, f"spec.initContainers[{position}]")
    return causes


def validate_new_pod(pod: Pod) -> Causes:
    """VAL-17: a pod is created without ephemeral containers."""
    causes = validate_pod(pod)
    if annotations := pod.metadata.annotations:
        causes = validate_pod_annotations(annotations, pod.spec, "metadata.annotations") + causes
    if pod.spec.ephemeral_containers:
        causes.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if pod.spec.scheduling_gates and pod.spec.node_name:
        causes.append(
            forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
        )
    return causes


def validate_pod_template(template: PodTemplate) -> Causes:
    return validate_template(template.template, "template")


def validate_template(template: PodTemplateSpec, at: str) -> Causes:
    """VAL-7: a template is checked like a pod; its labels and annotations are those of its pods."""
    causes: Causes = []
    metadata = template.metadata
    if metadata.labels:
        causes += validate_labels(metadata.labels, f"{at}.labels")
    if metadata.annotations:
        causes += validate_annotations(metadata.annotations, f"{at}.annotations")
        causes += validate_pod_annotations(metadata.annotations, template.spec, f"{at}.annotations")
    causes += validate_pod_spec(template.spec, f"{at}.spec", False)
    if template.spec.ephemeral_containers:
        causes.append(
            forbidden(
                f"{at}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
            )
        )
    return causes


def validate_pod_spec(spec: PodSpec, at: str, in_pod: bool, name: str = "") -> Causes:
    """VAL-8 to VAL-15, in Kubernetes' order. `in_pod`: not a template; `name`: the pod's."""
    causes: Causes = []
    grace = spec.termination_grace_period_seconds
    if grace is None:
        causes.append(required(f"{at}.terminationGracePeriodSeconds"))
    volumes: Volumes = {}
    if spec.volumes:
        wrong, volumes = validate_volumes(spec.volumes, f"{at}.volumes", name, in_pod)
        causes += wrong
    claims = frozenset([claim.name for claim in spec.resource_claims or () if claim.name])
    if spec.resource_claims:
        causes += _validate_claims(spec, f"{at}.resourceClaims")
    pod_facts = PodFacts(volumes, claims, grace, spec.restart_policy, spec.host_users is not False)
    causes += validate_containers(spec.containers, pod_facts, f"{at}.containers")
    if spec.init_containers:
        causes += validate_init_containers(
            spec.init_containers, spec.containers, pod_facts, f"{at}.initContainers"
        )
    if spec.ephemeral_containers:
        causes += validate_ephemeral_containers(
            spec.ephemeral_containers, every_container(spec), pod_facts, f"{at}.ephemeralContainers"
        )
    if spec.resources is not None:
        causes += validate_pod_resources(spec, claims, f"{at}.resources")
    if spec.host_network:
        causes += _validate_host_network(spec, f"{at}.containers", in_pod)
    if spec.restart_policy not in RESTART_POLICIES:
        where = f"{at}.restartPolicy"
        causes.append(
            not_supported(where, spec.restart_policy, RESTART_POLICIES)
            if spec.restart_policy
            else required(where)
        )
    if spec.dns_policy not in DNS_POLICIES:
        where = f"{at}.dnsPolicy"
        causes.append(
            not_supported(where, spec.dns_policy, DNS_POLICIES)
            if spec.dns_policy
            else required(where)
        )
    if spec.node_selector:
        causes += validate_labels(spec.node_selector, f"{at}.nodeSelector")
    if spec.security_context is not None:
        causes += validate_pod_security(spec, at)
        causes += validate_process_namespace(spec, at)
    if spec.affinity is not None:
        causes += validate_affinity(spec.affinity, f"{at}.affinity")
    if spec.dns_config is not None or spec.dns_policy == "None":
        causes += _validate_dns(spec.dns_config, spec.dns_policy, f"{at}.dnsConfig")
    for position, gate in enumerate(spec.readiness_gates or ()):
        words = qualified_name(gate.condition_type)
        causes += [
            invalid(f"{at}.readinessGates[{position}].conditionType", gate.condition_type, word)
            for word in words
        ]
    if spec.scheduling_gates:
        causes += validate_gates(spec.scheduling_gates, f"{at}.schedulingGates")
    if spec.topology_spread_constraints:
        causes += validate_spread(
            spec.topology_spread_constraints, f"{at}.topologySpreadConstraints"
        )
    return causes + _validate_rest(spec, at)


def _validate_rest(spec: PodSpec, at: str) -> Causes:
    causes = validate_host_process(spec, at)
    if spec.host_users is False:
        for held, name in (
            (spec.host_network, "hostNetwork"),
            (spec.host_pid, "HostPID"),
            (spec.host_ipc, "HostIPC"),
        ):
            if held:
                causes.append(forbidden(f"{at}.{name}", "when `pod.Spec.HostUsers` is false"))
    if spec.service_account_name:
        words = dns_subdomain(spec.service_account_name)
        causes += [
            invalid(f"{at}.serviceAccountName", spec.service_account_name, word) for word in words
        ]
    if spec.node_name:
        causes += malformed(f"{at}.nodeName", spec.node_name, dns_subdomain)
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline <= DEADLINE_MAX:
        causes.append(
            invalid(
                f"{at}.activeDeadlineSeconds",
                deadline,
                f"must be between 1 and {DEADLINE_MAX}, inclusive",
            )
        )
    if spec.hostname:
        causes += malformed(f"{at}.hostname", spec.hostname, dns_label)
    if spec.subdomain:
        causes += malformed(f"{at}.subdomain", spec.subdomain, dns_label)
    if spec.tolerations:
        causes += validate_tolerations(spec.tolerations, f"{at}.tolerations")
    for position, alias in enumerate(spec.host_aliases or ()):
        causes += validate_address(alias.ip, f"{at}.hostAliases[{position}].ip")
        for number, name in enumerate(alias.hostnames or ()):
            causes += malformed(
                f"{at}.hostAliases[{position}].hostnames[{number}]", name, dns_subdomain
            )
    if spec.priority_class_name:
        causes += malformed(f"{at}.priorityClassName", spec.priority_class_name, dns_subdomain)
    if spec.runtime_class_name is not None:
        causes += malformed(f"{at}.runtimeClassName", spec.runtime_class_name, dns_subdomain)
    if spec.preemption_policy is not None and spec.preemption_policy not in PREEMPTION_POLICIES:
        causes.append(
            not_supported(f"{at}.preemptionPolicy", spec.preemption_policy, PREEMPTION_POLICIES)
        )
    if spec.overhead is not None:
        causes += validate_requirements(
            ResourceRequirements(limits=spec.overhead), f"{at}.overhead"
        )
    if spec.hostname_override is not None:
        causes += _validate_hostname(spec, f"{at}.hostnameOverride")
    return causes + validate_system(spec, at)


def _validate_hostname(spec: PodSpec, at: str) -> Causes:
    """`hostnameOverride` is a subdomain of at most 64 bytes, and no other field may set the host
    name."""
    name = spec.hostname_override or ""
    causes: Causes = malformed(at, name, dns_subdomain)
    if len(name) > HOSTNAME_MAX:
        causes.append(too_long(at, HOSTNAME_MAX))
    if spec.set_hostname_as_fqdn:
        causes.append(forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.host_network:
        causes.append(forbidden(at, "may not be specified when hostNetwork is true"))
    return causes


def _validate_claims(spec: PodSpec, at: str) -> Causes:
    """VAL-12: a claim has a unique name in the pod, and names a ResourceClaim or a template."""
    causes: Causes = []
    seen: set[str] = set()
    for position, claim in enumerate(spec.resource_claims or ()):
        here = f"{at}[{position}]"
        if not claim.name:
            causes.append(required(f"{here}.name"))
        elif claim.name in seen:
            causes.append(duplicate(f"{here}.name", claim.name))
        else:
            causes += malformed(f"{here}.name", claim.name, dns_label)
            seen.add(claim.name)
        named = (
            (claim.resource_claim_name, "resourceClaimName"),
            (claim.resource_claim_template_name, "resourceClaimTemplateName"),
        )
        given = [(text, name) for text, name in named if text is not None]
        if len(given) > 1:
            words = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            causes.append(invalid(here, claim, words))
        elif not given:
            causes.append(
                invalid(
                    here,
                    claim,
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                )
            )
        for text, name in given:
            causes += malformed(f"{here}.{name}", text, dns_subdomain)
    return causes


def _validate_host_network(spec: PodSpec, at: str, in_pod: bool) -> Causes:
    """VAL-10: on the host's network a host port equals the container port; in a template it may be
    absent (DEF-6)."""
    causes: Causes = []
    for position, container in enumerate(spec.containers):
        for number, port in enumerate(container.ports or ()):
            on_host = port.host_port or 0
            if (in_pod or on_host) and on_host != port.container_port:
                where = f"{at}[{position}].ports[{number}].hostPort"
                causes.append(
                    invalid(where, on_host, "must match `containerPort` when `hostNetwork` is true")
                )
    return causes


def _validate_dns(config: PodDNSConfig | None, policy: str | None, at: str) -> Causes:
    if policy == "None":
        if config is None:
            return [required(at, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.nameservers:
            return [
                required(
                    f"{at}.nameservers",
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                )
            ]
    if config is None:
        return []
    causes: Causes = []
    servers, searches = config.nameservers or (), config.searches or ()
    if len(servers) > NAMESERVERS_MAX:
        causes.append(
            invalid(
                f"{at}.nameservers",
                servers,
                f"must not have more than {NAMESERVERS_MAX} nameservers",
            )
        )
    for position, server in enumerate(servers):
        causes += validate_address(server, f"{at}.nameservers[{position}]")
    if len(searches) > SEARCHES_MAX:
        causes.append(
            invalid(
                f"{at}.searches", searches, f"must not have more than {SEARCHES_MAX} search paths"
            )
        )
    if len(" ".join(searches)) > SEARCH_CHARACTERS_MAX:
        words = (
            f"must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in "
            "the search list"
        )
        causes.append(invalid(f"{at}.searches", searches, words))
    for position, search in enumerate(searches):
        if search != ".":
            # search domains may have underscores in place of letters
            plain = search.removesuffix(".").replace("_", "a")
            causes += [
                invalid(f"{at}.searches[{position}]", search, word) for word in dns_subdomain(plain)
            ]
    for position, option in enumerate(config.options or ()):
        if not option.name:
            causes.append(required(f"{at}.options[{position}]", "must not be empty"))
    return causes


# --- updates


def validate_pod_update(new: Pod, old: Pod) -> Causes:
    """VAL-17: of a pod's spec only images, the deadline (shorter), tolerations (more) and gates
    (fewer) can change."""
    causes: Causes = []
    if new.metadata.annotations != old.metadata.annotations:
        causes += validate_pod_annotations_update(
            new.metadata.annotations or {},
            old.metadata.annotations or {},
            new.spec,
            "metadata.annotations",
        )
    before, after = old.spec, new.spec
    if after is before or after == before:
        return causes
    causes += validate_pod(new)
    if len(after.containers) != len(before.containers):
        return [
            *causes,
            forbidden("spec.containers", "pod updates may not add or remove containers"),
        ]
    if len(after.init_containers or ()) != len(before.init_containers or ()):
        return [
            *causes,
            forbidden("spec.initContainers", "pod updates may not add or remove containers"),
        ]
    causes += _validate_deadline(after.active_deadline_seconds, before.active_deadline_seconds)
    added = [
        gate.name
        for gate in after.scheduling_gates or ()
        if gate not in (before.scheduling_gates or ())
    ]
    for name in added:
        position = [gate.name for gate in after.scheduling_gates or ()].index(name)
        words = f"only deletion is allowed, but found new scheduling gate '{name}'"
        causes.append(forbidden(f"spec.schedulingGates[{position}].name", words))
    causes += _validate_added_tolerations(after, before)
    if before.termination_grace_period_seconds != after.termination_grace_period_seconds:
        # A negative period, which older versions accepted, may become one second.
        shortened = (
            before.termination_grace_period_seconds or 0
        ) < 0 and after.termination_grace_period_seconds == 1
        if shortened:
            after = replace(
                after, termination_grace_period_seconds=before.termination_grace_period_seconds
            )
    gated = bool(before.scheduling_gates)
    munged = replace(
        after,
        containers=_with_images_of(after.containers, before.containers),
        init_containers=after.init_containers
        and _with_images_of(after.init_containers, before.init_containers or ()),
        active_deadline_seconds=before.active_deadline_seconds,
        scheduling_gates=before.scheduling_gates,
        tolerations=before.tolerations,
    )
    if gated:  # while a pod has scheduling gates, its node selector may become stricter
        munged = replace(munged, node_selector=before.node_selector, affinity=before.affinity)
        causes += _validate_stricter(after, before)
    if munged != before:
        words = (
            "pod updates may not change fields other than "
            "`spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)"
        )
        causes.append(forbidden("spec", words))
    return causes


def _with_images_of(
    containers: tuple[Container, ...], others: tuple[Container, ...]
) -> tuple[Container, ...]:
    return tuple(
        [replace(one, image=other.image) for one, other in zip(containers, others, strict=True)]
    )


def _validate_deadline(after: int | None, before: int | None) -> Causes:
    at = "spec.activeDeadlineSeconds"
    if after is None:
        return (
            []
            if before is None
            else [invalid(at, after, "must not update from a positive integer to nil value")]
        )
    if after < 0 or after > DEADLINE_MAX:
        return [invalid(at, after, f"must be between 0 and {DEADLINE_MAX}, inclusive")]
    if before is not None and before < after:
        return [invalid(at, after, "must be less than or equal to previous value")]
    return []


def validate_ephemeral_update(new: Pod, old: Pod) -> Causes:
    """VAL-17: of the ephemeral containers, through their own path: more of them, and no others."""
    if new.spec == old.spec:
        return []
    return validate_pod(new) + _validate_existing_ephemeral_containers(new.spec, old.spec)


def _validate_existing_ephemeral_containers(after: PodSpec, before: PodSpec) -> Causes:
    """Existing ephemeral containers are immutable."""
    at, names = (
        "spec.ephemeralContainers",
        {container.name: container for container in after.ephemeral_containers or ()},
    )
    causes: Causes = []
    for container in before.ephemeral_containers or ():
        if container.name not in names:
            causes.append(
                forbidden(
                    at, f"existing ephemeral containers {show(container.name)} may not be removed\n"
                )
            )
        elif names[container.name] != container:
            causes.append(
                forbidden(
                    at, f"existing ephemeral containers {show(container.name)} may not be changed\n"
                )
            )
    return causes


def _validate_added_tolerations(after: PodSpec, before: PodSpec) -> Causes:
    kept = [replace(toleration, toleration_seconds=None) for toleration in after.tolerations or ()]
    for toleration in before.tolerations or ():
        if replace(toleration, toleration_seconds=None) not in kept:
            return [
                forbidden(
                    "spec.tolerations",
                    "existing toleration can not be modified except its tolerationSeconds",
                )
            ]
    return []


def _validate_stricter(after: PodSpec, before: PodSpec) -> Causes:
    causes: Causes = []
    selector = after.node_selector or {}
    for key, value in (before.node_selector or {}).items():
        if selector.get(key) != value:
            return [
                invalid(
                    "spec.nodeSelector",
                    selector,
                    "only additions are allowed (no mutations or deletions)",
                )
            ]
    old_affinity, new_affinity = before.affinity, after.affinity
    if old_affinity is not None and old_affinity.node_affinity is not None:
        required_before = (
            old_affinity.node_affinity.required_during_scheduling_ignored_during_execution
        )
        if required_before is not None:
            node_affinity = new_affinity.node_affinity if new_affinity is not None else None
            required_after = (
                node_affinity.required_during_scheduling_ignored_during_execution
                if node_affinity is not None
                else None
            )
            if required_after is None or len(required_after.node_selector_terms) != len(
                required_before.node_selector_terms
            ):
                where = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
                return [
                    *causes,
                    invalid(
                        where,
                        required_after,
                        "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
                    ),
                ]
    return causes
