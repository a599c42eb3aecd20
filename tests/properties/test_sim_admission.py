"""Simulated runs in which quotas and admission policies come, change and go while users create what
they limit (spec/simulation.md, spec/quota.md, spec/admission_policies.md)."""

from collections import Counter
from typing import Any

import pytest

from refk8s.checking.simulator.admission_user import begin
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Run, Setup, simulate
from refk8s.core.apiserver.admission import resource_quota
from refk8s.core.apiserver.admission.policies import validating

REQUESTS = read_manifests((*begin(), *default_manifests()))


def run(seed: int, apiservers: int, steps: int = 3_000) -> Run:
    return simulate(
        Setup(seed=seed, steps=steps, nodes=2, apiservers=apiservers, requests=REQUESTS)
    )


def test_quota_1_pol_6_what_comes_late_holds_for_what_comes_later_after_any_faults() -> None:
    # Shows POL-6.a QUOTA-1.a.
    tested: Counter[str] = Counter()
    for seed, apiservers in ((1, 1), (3, 1), (4, 1), (1, 3), (3, 3), (4, 2)):
        done = run(seed, apiservers)
        assert not done.broken, str(done.broken[0])
        tested += done.tested
    assert all(tested[rule] > 3 for rule in ("QUOTA-1", "QUOTA-7", "QUOTA-8", "POL-6", "LIST-14"))


def test_pol_6_a_server_that_does_not_evaluate_policies_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validating, "_validate_by", lambda *_: None)
    found = {done.broken[0].rule for seed in range(8) if (done := run(seed, 1)).broken}
    assert "POL-6" in found


def test_quota_1_a_server_that_charges_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        return (), ()

    monkeypatch.setattr(resource_quota, "charge", nothing)
    found = {done.broken[0].rule for seed in range(8) if (done := run(seed, 1)).broken}
    assert found & {"QUOTA-1", "QUOTA-8"}
