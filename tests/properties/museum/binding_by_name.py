"""A binding binds the next pod of its name.

A pod of a StatefulSet is deleted and created again under its name, with larger requests, while the
scheduler's binding of the first pod is in transit. The binding has no uid, so it binds the second
pod to a node that was chosen for the first. The change sends bindings without a uid. A node gets
more pods than it has room for (SCHED-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.scheduler.plugin_writes import default_binding

EXHIBIT = Exhibit(
    title="A late binding binds another pod of the same name",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=102761,
    said="Add pre-condition check for bind operation",
    rule="SCHED-1",
    changes=(
        Change(
            default_binding,
            "metadata=ObjectMeta(namespace=namespace, name=name, uid=pod.metadata.uid),",
            "metadata=ObjectMeta(namespace=namespace, name=name),",
        ),
    ),
    finder=Property(
        "test_lessons.test_sched_1_a_binding_is_for_the_pod_it_was_decided_for_and_not_for_the_next_of_its_name",
        300,
    ),
)
