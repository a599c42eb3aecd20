"""A component that starts again goes back in time.

Reflectors began with a list at resourceVersion 0: "any state will do". With several API servers the
list may come from one whose cache has stopped long ago. A kubelet that had already ended a pod, and
whose pod had been made anew on another node, started again, was shown the past, and ran the pod a
second time. The change asks for any state again. A list must be of the newest state (WATCH-4).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop.informer import Informer

EXHIBIT = Exhibit(
    title="A restarted component is shown the past by a stale API server",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=59848,
    said="Use of resourceVersion=0 in reflectors for initial sync breaks pod safety when more than one master",
    rule="WATCH-4",
    changes=(
        Change(
            Informer.list_request,
            "options = Options(field_selector=self.field_selector, label_selector=self.label_selector)",
            'options = Options(field_selector=self.field_selector, label_selector=self.label_selector, resource_version="0")',
        ),
    ),
    finder=Property(
        "test_lessons.test_watch_4_who_starts_again_at_a_stale_server_knows_no_less_than_before"
    ),
    also=(Way("WATCH-4", Simulation(steps=2_500)),),
)
