"""The address families of a Service. Rules ALLOC-2, ALLOC-12 (spec/admission.md).

    ipFamilyPolicy      on a cluster with one family    on a cluster with two
    SingleStack         one                             one
    PreferDualStack     one                             two
    RequireDualStack    refused                         two

The first family is that of the Service's first address, else the first of `ipFamilies`, else the
first of the cluster. Source: Kubernetes documentation, "IPv4/IPv6 dual-stack"; KEP-563, "IPv4/IPv6
Dual-Stack".
"""

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Service, ServiceSpec
from refk8s.core.api.families import family_of, other_family
from refk8s.core.api.status import INVALID, ApiError, Cause
from refk8s.core.apiserver.admission.service import needs_cluster_ip
from refk8s.core.apiserver.validation.service import is_headless, validate_families

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"


def with_families(
    service: Service, old: Service | None, configured: tuple[str, ...]
) -> ServiceSpec:
    """The spec with its policy and families. `configured`: the families of this cluster, its
    default first.

    Raises ApiError 422 if they do not fit each other or this cluster. Addresses and families are
    compared before, because nothing can be allocated if they do not match.
    """
    spec = service.spec
    _refuse(service, validate_families(spec))
    if not needs_cluster_ip(spec) or (old is not None and _still_prefers(spec, old.spec)):
        return spec
    before = old.spec if old is not None else ServiceSpec()
    headless_alone = is_headless(spec) and not spec.selector
    policy = (
        spec.ip_family_policy
        or before.ip_family_policy
        or (REQUIRE if headless_alone and len(spec.ip_families or ()) != 1 else SINGLE)
    )
    spec = replace(spec, ip_family_policy=policy)
    if policy == SINGLE:
        spec = _downgraded(spec, before)
        causes = _of_single_stack(spec)
    else:
        causes = _reduced(spec, before)
    families = spec.ip_families or ()
    for position, address in enumerate(() if is_headless(spec) else spec.cluster_ips or ()):
        if position >= len(families):
            family = family_of(address)
            if family in configured:
                families = (*families, family)
            else:
                words = f"{family} is not configured on this cluster"
                at, value = f"spec.clusterIPs[{position}]", list(spec.cluster_ips or ())
                causes.append(Cause(INVALID, at, words, value))
    _refuse(service, causes)
    if headless_alone:
        families = families or configured[:1]
        if policy != SINGLE and len(families) == 1:
            families = (*families, other_family(families[0]))
        return replace(spec, ip_families=families)
    _refuse(service, _not_configured(spec, families, configured))
    families = families or configured[:1]
    if policy != SINGLE and len(families) == 1 and len(configured) == 2:
        families = (*families, other_family(families[0]))
    return replace(spec, ip_families=families)


def _refuse(service: Service, causes: list[Cause]) -> None:
    if causes:
        raise ApiError(status.invalid(resources.SERVICES, service.metadata.name or "", causes))


def _still_prefers(spec: ServiceSpec, before: ServiceSpec) -> bool:
    """ALLOC-12: whether a Service keeps its families, although the cluster may have two by now."""
    return (
        spec.type == before.type
        and spec.ip_family_policy == PREFER
        and before.ip_family_policy in (None, PREFER)
        and (spec.cluster_ips or ()) == (before.cluster_ips or ())
        and (spec.ip_families or ()) == (before.ip_families or ())
    )


def _downgraded(spec: ServiceSpec, before: ServiceSpec) -> ServiceSpec:
    """ALLOC-12: SingleStack releases the second address and family of a Service that leaves them
    as they were."""
    addresses, families = spec.cluster_ips or (), spec.ip_families or ()
    if len(addresses) > 1 and addresses == (before.cluster_ips or ()):
        spec = replace(spec, cluster_ips=addresses[:1])
    if len(families) > 1 and families == (before.ip_families or ()):
        spec = replace(spec, ip_families=families[:1])
    return spec


def _reduced(spec: ServiceSpec, before: ServiceSpec) -> list[Cause]:
    """ALLOC-12: without SingleStack, the second address and family cannot be taken away."""
    at, words = "spec.ipFamilyPolicy", "must be 'SingleStack' to release the secondary {}"
    pairs = (
        ("cluster IP", spec.cluster_ips, before.cluster_ips),
        ("IP family", spec.ip_families, before.ip_families),
    )
    return [
        Cause(INVALID, at, words.format(what), spec.ip_family_policy)
        for what, now, then in pairs
        if now and len(now) < len(then or ())
    ]


def _of_single_stack(spec: ServiceSpec) -> list[Cause]:
    """ALLOC-2: without a policy for two families there is one of each."""
    words = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    several = (("cluster IPs", spec.cluster_ips), ("IP families", spec.ip_families))
    return [
        Cause(INVALID, "spec.ipFamilyPolicy", words.format(what), SINGLE)
        for what, values in several
        if len(values or ()) > 1
    ]


def _not_configured(
    spec: ServiceSpec, families: tuple[str, ...], configured: tuple[str, ...]
) -> list[Cause]:
    causes = []
    if spec.ip_family_policy == REQUIRE and len(configured) < 2:
        words = "this cluster is not configured for dual-stack services"
        causes.append(Cause(INVALID, "spec.ipFamilyPolicy", words, spec.ip_family_policy))
    return causes + [
        Cause(INVALID, f"spec.ipFamilies[{position}]", "not configured on this cluster", family)
        for position, family in enumerate(families)
        if family not in configured
    ]
