"""Warnings about pods and pod templates. Rule WARN-3 (spec/validation.md).

Source: Kubernetes documentation, "Well-Known Labels, Annotations and Taints"; API reference,
"PodSpec".
"""

from collections.abc import Iterable, Sequence

from refk8s.core.api.core_v1 import (
    Container,
    DownwardAPIVolumeFile,
    EnvVar,
    EphemeralContainer,
    KeyToPath,
    NodeSelectorTerm,
    Pod,
    PodAffinityTerm,
    PodSpec,
    VolumeProjection,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.status import show
from refk8s.core.apiserver.validation.names import dns_label, label_value, parse_ip
from refk8s.core.apiserver.validation.resources import amount
from refk8s.core.apiserver.validation.windows import containers_of
from refk8s.core.memo import remember_identical

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP, _CONTAINER_SECCOMP = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_VOLUMES = (
    (
        "photon_persistent_disk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("git_repo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scale_io", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
)
_BYTES = ("memory", "ephemeral-storage")
_NO_SELECTOR = "a null labelSelector results in matching no pod"
AnyContainer = Container | EphemeralContainer


def of_pod(new: Pod, old: Pod | None) -> list[str]:
    """WARN-3 for a pod. On create its name becomes a host name."""
    warnings = []
    if old is None and (words := dns_label(new.metadata.name or "")):
        why = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        warnings.append(f"metadata.name: {why}: {go_list(words)}")
    if new.metadata.annotations:
        return warnings + of_spec(new.spec, new.metadata, "")
    return warnings + _of_plain_spec(new.spec)


@remember_identical(16)
def _of_plain_spec(spec: PodSpec) -> list[str]:
    """The warnings about the spec of a pod without annotations."""
    return of_spec(spec, _NO_METADATA, "")


_NO_METADATA = ObjectMeta()


def go_list(words: Iterable[str]) -> str:
    return f"[{' '.join(words)}]"


def of_spec(spec: PodSpec, metadata: ObjectMeta, at: str) -> list[str]:
    """WARN-3: a pod spec and its metadata. `at`: the path of both, empty for a pod itself."""
    prefix = f"{at}." if at else ""
    here = f"{prefix}spec"
    warnings = _of_labels(spec, here)
    annotations = metadata.annotations or {}
    if annotations:
        warnings += [
            f"{prefix}metadata.annotations[{key}]: {words}"
            for key, words in _ANNOTATIONS.items()
            if key in annotations
        ]
    warnings += _of_volumes(spec, here) + _of_lists(spec, here)
    if spec.overhead:
        warnings += _of_bytes(spec.overhead, f"{here}.overhead")
    context = spec.security_context
    if _SECCOMP in annotations and (context is None or context.seccomp_profile is None):
        warnings.append(
            f'{prefix}metadata.annotations[{_SECCOMP}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        )
    for container, place in containers_of(spec, here):
        if annotations:
            warnings += _of_annotations(container, spec, annotations, prefix)
        if limits := container.resources.limits:
            warnings += _of_bytes(limits, f"{place}.resources.limits")
        if requests := container.resources.requests:
            warnings += _of_bytes(requests, f"{place}.resources.requests")
        if container.env and len(container.env) > 1:
            warnings += _of_env(container.env, f"{place}.env")
    warnings += _of_ports(spec, here)
    if (spec.termination_grace_period_seconds or 0) < 0:
        words = "must be >= 0; negative values are invalid and will be treated as 1"
        warnings.append(f"{here}.terminationGracePeriodSeconds: {words}")
    return warnings + _of_affinity(spec, here)


def of_term(term: NodeSelectorTerm, at: str, checks_values: bool) -> list[str]:
    """Node labels of a term that are deprecated, and values that are not valid values of labels."""
    warnings = []
    for position, one in enumerate(term.match_expressions or ()):
        if words := NODE_LABELS.get(one.key):
            warnings.append(f"{at}.matchExpressions[{position}].key: {one.key} is {words}")
        for number, value in enumerate((one.values or ()) if checks_values else ()):
            warnings += [
                f"{at}.matchExpressions[{position}].values[{number}]: {word}"
                for word in label_value(value)
            ]
    return warnings


def _of_labels(spec: PodSpec, at: str) -> list[str]:
    warnings = [
        f"{at}.nodeSelector[{key}]: {NODE_LABELS[key]}"
        for key in spec.node_selector or ()
        if key in NODE_LABELS
    ]
    nodes = spec.affinity.node_affinity if spec.affinity is not None else None
    if nodes is not None:
        demand = nodes.required_during_scheduling_ignored_during_execution
        for position, term in enumerate(demand.node_selector_terms if demand is not None else ()):
            place = f"{at}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{position}]"
            warnings += of_term(term, place, checks_values=False)
        for position, wish in enumerate(
            nodes.preferred_during_scheduling_ignored_during_execution or ()
        ):
            place = f"{at}.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{position}].preference"
            warnings += of_term(wish.preference, place, checks_values=True)
    for position, constraint in enumerate(spec.topology_spread_constraints or ()):
        place = f"{at}.topologySpreadConstraints[{position}]"
        if words := NODE_LABELS.get(constraint.topology_key):
            warnings.append(f"{place}.topologyKey: {constraint.topology_key} is {words}")
        if constraint.label_selector is None:
            warnings.append(f"{place}.labelSelector: {_NO_SELECTOR}")
    return warnings


def _of_volumes(spec: PodSpec, at: str) -> list[str]:
    warnings = []
    tokens: set[str] = set()
    for position, volume in enumerate(spec.volumes or ()):
        if volume.projected is not None:  # the volume has no other source
            found = [one.service_account_token for one in volume.projected.sources or ()]
            tokens.update([token.path for token in found if token is not None])
            continue
        here = f"{at}.volumes[{position}]"
        warnings += [
            f"{here}.{name}: {words}"
            for attribute, name, words in _VOLUMES
            if getattr(volume, attribute) is not None
        ]
        if volume.ephemeral is not None and volume.ephemeral.volume_claim_template is not None:
            claim = volume.ephemeral.volume_claim_template.spec
            warnings += of_storage(
                claim.resources.requests,
                f"{here}.ephemeral.volumeClaimTemplate.spec.resources.requests",
            )
    for position, volume in enumerate(spec.volumes or () if tokens else ()):
        if volume.projected is not None:
            for source in volume.projected.sources or ():
                if source.service_account_token is None:
                    warnings += _of_source(
                        source, tokens, f"{at}.volumes[{position}].projected.sources"
                    )
    return warnings


def of_storage(requests: dict[str, str] | None, at: str) -> list[str]:
    return _fractional(
        {"storage": requests["storage"]} if requests and "storage" in requests else {}, at
    )


def _of_source(source: VolumeProjection, tokens: set[str], at: str) -> list[str]:
    """Files that a token of the same volume overwrites."""
    words = "has duplicated path with ServiceAccountToken"
    warnings = []
    for projected, name in (
        (source.config_map, "configMap"),
        (source.secret, "secrets"),
        (source.downward_api, "downwardAPI"),
    ):
        files: Sequence[KeyToPath | DownwardAPIVolumeFile] = (
            (projected.items or ()) if projected is not None else ()
        )
        warnings += [
            f"{at}.{name}[{number}]: {words} {show(file.path)}"
            for number, file in enumerate(files)
            if file.path in tokens
        ]
    bundle = source.cluster_trust_bundle
    if bundle is not None and bundle.path in tokens:
        warnings.append(
            f"{at}.ClusterTrustBundle: has duplicated path with ServiceAccountToken {show(bundle.path)}"
        )
    return warnings


def _of_lists(spec: PodSpec, at: str) -> list[str]:
    """Entries of lists that repeat an earlier one, and addresses that are not in canonical form."""
    warnings = []
    seen: set[str] = set()
    for position, alias in enumerate(spec.host_aliases or ()):
        here = f"{at}.hostAliases[{position}].ip"
        warnings += _of_address(alias.ip, here)
        if alias.ip in seen:
            warnings.append(f"{here}: duplicate ip {show(alias.ip)}")
        seen.add(alias.ip)
    for position, server in enumerate(
        (spec.dns_config.nameservers or ()) if spec.dns_config is not None else ()
    ):
        warnings += _of_address(server, f"{at}.dnsConfig.nameservers[{position}]")
    names: set[str] = set()
    for position, secret in enumerate(spec.image_pull_secrets or ()):
        name = secret.name or ""
        if name in names:
            warnings.append(f"{at}.imagePullSecrets[{position}].name: duplicate name {show(name)}")
        names.add(name)
    for position, secret in enumerate(spec.image_pull_secrets or ()):
        if not secret.name:
            warnings.append(f'{at}.imagePullSecrets[{position}].name: invalid empty name ""')
    return warnings


def _of_address(text: str, at: str) -> list[str]:
    """An IPv6 address has one canonical form; other forms cannot be compared as text."""
    address = parse_ip(text)
    if address is None or str(address) == text:
        return []
    return [
        f"{at}: IPv6 address {show(text)} should be in RFC 5952 canonical format ({show(str(address))})"
    ]


def _of_bytes(amounts: dict[str, str], at: str) -> list[str]:
    return _fractional({name: text for name, text in amounts.items() if name in _BYTES}, at)


def _fractional(amounts: dict[str, str], at: str) -> list[str]:
    warnings = []
    for name, text in amounts.items():
        number = amount(text)
        if number is not None and number.nano % 10**9:
            warnings.append(
                f"{at}[{name}]: fractional byte value {show(text)} is invalid, must be an integer"
            )
    return warnings


def _of_annotations(
    container: AnyContainer, spec: PodSpec, annotations: dict[str, str], prefix: str
) -> list[str]:
    """Profiles that are named by an annotation instead of a field."""
    own, pod = container.security_context, spec.security_context
    key = _CONTAINER_SECCOMP + container.name
    warnings = []
    if key in annotations and (own is None or own.seccomp_profile is None):
        warnings.append(
            f'{prefix}metadata.annotations[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        )
    key = _APP_ARMOR + container.name
    has_field = (own is not None and own.app_armor_profile is not None) or (
        pod is not None and pod.app_armor_profile is not None
    )
    if key in annotations and not has_field:
        warnings.append(
            f'{prefix}metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
        )
    return warnings


def _of_env(env: tuple[EnvVar, ...], at: str) -> list[str]:
    """A variable that occurs again and does not refer to its earlier value."""
    warnings = []
    seen: set[str] = set()
    for position, variable in enumerate(env):
        reference, value = f"$({variable.name})", variable.value or ""
        if variable.name in seen and (
            variable.value_from is not None or value == reference or reference not in value
        ):
            hides = f"hides previous definition of {show(variable.name)}, which may be dropped when using apply"
            warnings.append(f"{at}[{position}]: {hides}")
        seen.add(variable.name)
    return warnings


def _of_ports(spec: PodSpec, at: str) -> list[str]:
    """Ports of a pod that are equal or may be."""
    warnings = []
    seen: dict[tuple[int, str], list[tuple[str, str, int]]] = {}
    for container, place in containers_of(spec, at):
        for position, port in enumerate(container.ports or ()):
            here, host_ip, host_port = (
                f"{place}.ports[{position}]",
                port.host_ip or "",
                port.host_port or 0,
            )
            if host_ip and not host_port:
                shown = f"Name:{port.name or ''} HostPort:0 ContainerPort:{port.container_port}"
                warnings.append(
                    f"{here}: hostIP set without hostPort: {{{shown} Protocol:{port.protocol or ''} HostIP:{host_ip}}}"
                )
            others = seen.setdefault((port.container_port, port.protocol or ""), [])
            for other, other_ip, other_port in others:
                if (host_ip, host_port) == (other_ip, other_port):
                    warnings.append(f"{here}: duplicate port definition with {other}")
                elif not host_port or not other_port:
                    warnings.append(f"{here}: overlapping port definition with {other}")
                elif host_port == other_port and bool(host_ip) != bool(other_ip):
                    warnings.append(f"{here}: dangerously ambiguous port definition with {other}")
            others.append((here, host_ip, host_port))
    return warnings


def _of_affinity(spec: PodSpec, at: str) -> list[str]:
    warnings: list[str] = []

    def look(term: PodAffinityTerm, here: str) -> None:
        if term.label_selector is None:
            warnings.append(f"{here}.labelSelector: {_NO_SELECTOR}")

    affinity = spec.affinity
    for kind, name in (
        ((affinity.pod_affinity, "podAffinity"), (affinity.pod_anti_affinity, "podAntiAffinity"))
        if affinity
        else ()
    ):
        if kind is None:
            continue
        for position, term in enumerate(
            kind.required_during_scheduling_ignored_during_execution or ()
        ):
            look(
                term,
                f"{at}.affinity.{name}.requiredDuringSchedulingIgnoredDuringExecution[{position}]",
            )
        for position, wish in enumerate(
            kind.preferred_during_scheduling_ignored_during_execution or ()
        ):
            place = (
                f"{at}.affinity.{name}.preferredDuringSchedulingIgnoredDuringExecution[{position}]"
            )
            look(wish.pod_affinity_term, f"{place}.podAffinityTerm")
    return warnings
