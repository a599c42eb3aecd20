"""Requests of a simulated user about the families of a Service's addresses. Rule SIM-2
(spec/simulation.md).

The user sends them only in runs that begin with a Service of two families, besides the requests of
`user.py`.
"""

from collections.abc import Iterable
from random import Random

from refk8s.core.actions import Submit
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import SERVICES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
OWN = "default"


def is_about_families(requests: Iterable[Request]) -> bool:
    """Whether one of these creates a Service that may have two families."""
    return any(
        request.resource is SERVICES
        and request.body is not None
        and getattr(request.body.spec, "ip_family_policy", None) in POLICIES[1:]
        for request in requests
    )


def _change(cluster: Cluster, chance: Random) -> Submit | None:
    """A Service gets its second family, or loses it (ALLOC-12)."""
    services = cluster.history.list(f"{SERVICES.prefix}{OWN}/").records
    names = [one.value.metadata.name for one in services if one.value.metadata.name != "kubernetes"]
    if not names:
        return None
    patch = Patch(
        "application/merge-patch+json", {"spec": {"ipFamilyPolicy": chance.choice(POLICIES)}}
    )
    return Submit(Request("patch", SERVICES, OWN, chance.choice(names), body=patch, user=ADMIN))


ACTS = (_change,)
