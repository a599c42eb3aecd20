"""The service rules of this machine: in the kernel if it accepts them, else in a user-space proxy.
Rule NET-17 (spec/network.md)."""

import logging

from refk8s.adapters.linux.kernel_rules import KernelRules, why_no_kernel_rules
from refk8s.adapters.linux.userspace_rules import UserspaceRules

log = logging.getLogger("refk8s")


def choose_rules(node_ip: str, pod_cidr: str, cluster_id: str) -> KernelRules | UserspaceRules:
    """The rules of this node in the kernel where that is possible, else by this process, and one
    line about what is missed then (NET-17).

    Takes some milliseconds; may be called in any thread.
    """
    problem = why_no_kernel_rules()
    if not problem:
        return KernelRules(node_ip, pod_cidr, cluster_id)
    log.warning(
        "services are served by this process and only while it runs, pods do not see their clients' addresses, and there is no SCTP: "
        "the kernel takes no rules here (%s)",
        problem,
    )
    return UserspaceRules(node_ip, pod_cidr, cluster_id)
