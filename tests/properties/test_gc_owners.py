"""Owners by uid and by place (GC-2): references that are right, copied elsewhere or mistaken,
whatever order the news of them comes in."""

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from workload_helpers import ask, new_cluster, nothing_wrong

from refk8s.core.actions import Delay
from refk8s.core.api.core_v1 import ConfigMap, Namespace, Secret
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES, SECRETS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.controllers.garbage_collector import GarbageCollector

RIGHT, ELSEWHERE, MISNAMED, OF_ANOTHER_KIND = "right", "elsewhere", "misnamed", "of another kind"


def with_dependent(cluster: Cluster, uid: str, how: str, number: int) -> Cluster:
    """A Secret that names the owner of this uid rightly, or from another namespace, or under a
    wrong name or kind."""
    kind, name = (
        ("Secret" if how == OF_ANOTHER_KIND else "ConfigMap"),
        ("nobody" if how == MISNAMED else "owner"),
    )
    reference = OwnerReference(api_version="v1", kind=kind, name=name, uid=uid)
    body = Secret(
        metadata=ObjectMeta(name=f"{number}-{how.replace(' ', '-')}", owner_references=(reference,))
    )
    return ask(
        cluster,
        Request(
            "create", SECRETS, "other" if how == ELSEWHERE else "default", body=body, user=ADMIN
        ),
    )


@given(
    st.lists(st.sampled_from([RIGHT, ELSEWHERE, MISNAMED, OF_ANOTHER_KIND]), max_size=4),
    st.booleans(),
    choices,
)
def test_gc_2_an_owner_is_its_uid_in_the_place_that_the_reference_names(hows, early, drawn):
    """The collector may hear of the dependents before it hears of their owner."""
    cluster = new_cluster(GarbageCollector())
    cluster = ask(
        cluster,
        Request(
            "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="other")), user=ADMIN
        ),
    )
    if early:
        cluster = settle(start_all(cluster), nothing_wrong)
        [watch] = [
            channel
            for channel in sorted(cluster.watches)
            if cluster.watches[channel].stream.resource == CONFIG_MAPS
        ]
        cluster = step(cluster, Delay(watch, cluster.now + SECOND))
    cluster = ask(
        cluster,
        Request(
            "create",
            CONFIG_MAPS,
            "default",
            body=ConfigMap(metadata=ObjectMeta(name="owner")),
            user=ADMIN,
        ),
    )
    uid = cluster.history.get("/core/configmaps/default/owner").value.metadata.uid
    for number, how in enumerate(hows):
        cluster = with_dependent(cluster, uid, how, number)
        if early:
            cluster = run(
                cluster, drawn[number::4], nothing_wrong, ["lose", "cut", "compact", "crash"]
            )
    cluster = settle(cluster if early else start_all(cluster), nothing_wrong)
    left = sorted(
        record.value.metadata.name for record in cluster.history.list(SECRETS.prefix).records
    )
    assert left == sorted(f"{number}-{how}" for number, how in enumerate(hows) if how == RIGHT)
