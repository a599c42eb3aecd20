"""Simulated runs in which two managers apply the Deployments that controllers write the status of
(spec/simulation.md, spec/apply.md)."""

from collections import Counter

from refk8s.checking.simulator.apply_user import begin
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, simulate

OTHERS = [tree for tree in default_manifests() if tree["kind"] != "Deployment"]
REQUESTS = (*read_manifests(OTHERS), *begin())


def test_apply_15_managers_keep_their_fields_after_any_faults():
    # Shows APPLY-7.b APPLY-15.a.
    tested: Counter[str] = Counter()
    for seed, apiservers in ((0, 1), (2, 3), (6, 1), (7, 2)):
        setup = Setup(seed=seed, steps=3_000, nodes=2, apiservers=apiservers, requests=REQUESTS)
        run = simulate(setup)
        assert not run.broken, run.broken[0]
        tested += run.tested
    assert all(tested[rule] for rule in ("APPLY-7", "APPLY-12", "APPLY-15"))


def test_apply_7_in_a_simulated_run_no_apply_owns_status():
    run = simulate(Setup(seed=1, steps=3_000, nodes=2, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert run.tested["APPLY-7"] > 2
