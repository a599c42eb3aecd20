"""An owner that is being deleted continues to create pods.

A DaemonSet that is deleted in the foreground waits until its pods are deleted. Its controller saw
that pods were missing and created them again as fast as the garbage collector deleted them, so the
deletion never ended. (Deleted ReplicationControllers created thousands of pods: #57191.) The change
lets an owner create pods while it is being deleted (RS-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.controllers.replica_set import ReplicaSetReconciler

EXHIBIT = Exhibit(
    title="A controller that is being deleted creates again the pods that are deleted for it",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=64313,
    said="Foreground deletion for daemonset doesn't work",
    rule="RS-3",
    changes=(
        Change(
            ReplicaSetReconciler.reconcile,
            "missing = 0 if is_terminating else wanted - replicas.active",
            "missing = wanted - replicas.active",
        ),
    ),
    finder=Property(
        "test_rs.test_rs_1_rs_2_rs_3_a_plan_makes_up_exactly_for_what_is_missing_or_too_much", 400
    ),
    also=(Way("RS-3", Simulation(steps=2_500, seeds_max=200)),),
)
