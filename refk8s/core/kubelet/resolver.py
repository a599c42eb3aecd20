"""How a pod resolves names: the content of its resolv.conf. Rules KUBELET-51, KUBELET-96
(spec/kubelet.md).

| policy | servers | search domains | options |
|---|---|---|---|
| ClusterFirst (not on the host's network), ClusterFirstWithHostNet | the cluster's | NS.svc.DOMAIN, svc.DOMAIN, DOMAIN, the node's | ndots:5 |
| Default, or the cluster has no name server | the node's | the node's | the node's |
| None | none | none | none |

The entries of `dnsConfig` come after these. Source: Kubernetes documentation, "DNS for Services and
Pods" (Pod's DNS policy, Pod's DNS config, DNS search domain list limits); resolv.conf(5).
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import Pod
from refk8s.core.kubelet.draft import Facts
from refk8s.core.value import Value

SERVERS_MAX = 3
SEARCHES_MAX = 32
SEARCH_LINE_LENGTH_MAX = 2048
SEARCH_LENGTH_MAX = 253
"""Resolvers of some C libraries end their process at a longer search domain."""
REASON = "DNSConfigForming"


class Resolution(Value, frozen=True):
    """The lines of a resolv.conf; without any, the runtime's own are used. `warnings` say what was
    left out."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def compute_resolution(facts: Facts, pod: Pod) -> Resolution:
    """The servers, search domains and options of a pod (KUBELET-51)."""
    policy, config, node = pod.spec.dns_policy, facts.config, facts.node.resolver
    in_cluster = policy == "ClusterFirstWithHostNet" or (
        policy in (None, "", "ClusterFirst") and not pod.spec.host_network
    )
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: dict[str, str] = {}
    if in_cluster and config.cluster_dns:
        domain = config.cluster_domain
        servers = config.cluster_dns
        searches = (
            f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain, *node.searches
        )  # fmt: skip
        options = {"ndots": "5"}
    elif policy != "None":
        servers = node.servers if pod.spec.host_network else node.pod_servers
        searches = node.searches
        options = {name: value for name, _, value in (each.partition(":") for each in node.options)}
    custom = pod.spec.dns_config
    if custom is not None:
        servers = (*servers, *(custom.nameservers or ()))
        searches = (*searches, *(custom.searches or ()))
        options |= {option.name or "": option.value or "" for option in custom.options or ()}
    return _within_limits(
        tuple(dict.fromkeys(servers)),
        tuple(dict.fromkeys(searches)),
        tuple([f"{name}:{value}" if value else name for name, value in options.items()]),
    )


def _within_limits(
    servers: tuple[str, ...], searches: tuple[str, ...], options: tuple[str, ...]
) -> Resolution:
    """KUBELET-96."""
    warnings = []
    if len(servers) > SERVERS_MAX:
        servers = servers[:SERVERS_MAX]
        warnings.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {' '.join(servers)}"
        )
    fitting = _fitting_searches(searches[:SEARCHES_MAX])
    if fitting != searches:
        warnings.append(
            "Search Line limits were exceeded, some search paths have been omitted, "
            f"the applied search line is: {' '.join(fitting)}"
        )
    return Resolution(servers, fitting, options, tuple(warnings))


def _fitting_searches(searches: Iterable[str]) -> tuple[str, ...]:
    """Those that are not too long, as many of the first as fit into the line."""
    fitting = [each for each in searches if len(each) <= SEARCH_LENGTH_MAX]
    while len(" ".join(fitting)) > SEARCH_LINE_LENGTH_MAX:
        fitting.pop()
    return tuple(fitting)
