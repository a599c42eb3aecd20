"""The adapter of network policies without a kernel: when it programs what, and what it says. Rules
POLICY-9, POLICY-11 to POLICY-14 (spec/network_policy.md)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from immutables import Map

from refk8s.adapters.docker.runtime import DockerRuntime
from refk8s.adapters.fake.nodes import FakeNodes
from refk8s.adapters.linux import kernel_policies, nft
from refk8s.adapters.linux.kernel_policies import GIVEN_MAX, KernelPolicies
from refk8s.adapters.linux.nft import Unusable
from refk8s.core.context import SeededChance
from refk8s.core.network import policy_table
from refk8s.core.ports import (
    NO_POLICIES,
    Allowance,
    LocalPod,
    PolicySet,
    PortRange,
    Result,
    RunPodSandbox,
    SandboxConfig,
    SandboxStarted,
    SandboxStatus,
)

SANDBOX = SandboxStatus("s", "1", "a", "web", 0, True, ("10.244.0.2",))
ONE = PolicySet(True, Map({"a/web": LocalPod("1", (), ingress=())}))
OTHER = PolicySet(True, Map({"a/web": LocalPod("1", ("10.244.0.2",))}))


class Kernel:
    """The calls of the adapter, instead of a kernel. `refuses`: why nft fails, if not empty."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scripts: list[str] = []
        self.refuses = ""
        self.setting: str | None = "1"
        self.may_write = True
        for module in (kernel_policies, nft):
            monkeypatch.setattr(module, "run_nft", self._run)
        monkeypatch.setattr(kernel_policies, "read_setting", lambda path: self.setting)
        monkeypatch.setattr(kernel_policies, "write_setting", self._write)
        monkeypatch.setattr(kernel_policies, "output_of", lambda *command: None)

    def _run(self, script: str) -> None:
        if self.refuses:
            raise Unusable(self.refuses)
        self.scripts.append(script)

    def _write(self, value: str, path: Path) -> bool:
        if self.may_write:
            self.setting = value
        return self.may_write


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def new_policies() -> KernelPolicies:
    return KernelPolicies("c0ffee00", lambda: ("10.244.0.0/24", ""))


def test_policy_13_no_policies_and_no_nft_is_no_problem(kernel: Kernel) -> None:
    kernel.refuses = "the program nft is not installed"
    policies = new_policies()
    assert policies.program_now(NO_POLICIES) == "" and policies.program_now(NO_POLICIES) == ""
    policies.remove()
    assert kernel.scripts == []


def test_policy_13_the_table_is_removed_once_and_the_setting_restored(kernel: Kernel) -> None:
    kernel.setting = "0"
    policies = new_policies()
    policies.program_now(NO_POLICIES)
    assert len(kernel.scripts) == 1 and "delete table" in kernel.scripts[0]
    policies.program_now(NO_POLICIES)
    assert len(kernel.scripts) == 1
    assert policies.program_now(ONE) == "" and kernel.setting == "1"
    policies.program_now(NO_POLICIES)
    assert kernel.setting == "0" and len(kernel.scripts) == 3
    policies.program_now(ONE)
    policies.remove()
    assert kernel.setting == "0" and "delete table" in kernel.scripts[-1]


@pytest.mark.parametrize(
    ("setting", "may_write", "words"), [(None, True, "br_netfilter"), ("0", False, "cannot be set")]
)
def test_policy_12_packets_that_pass_by_the_filter_are_a_failure(
    kernel: Kernel, setting: str | None, may_write: bool, words: str
) -> None:
    """What can be enforced is enforced."""
    kernel.setting, kernel.may_write = setting, may_write
    assert words in new_policies().program_now(ONE)
    assert "isolated_in" in kernel.scripts[-1]


def test_policy_12_a_failure_is_answered_and_logged_once(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.refuses = "the program nft is not installed"

    async def main() -> list[str]:
        policies, answers = new_policies(), list[str]()
        for _ in range(2):
            answer = asyncio.get_running_loop().create_future()
            policies.program(ONE, answer.set_result)
            answers.append(await asyncio.wait_for(answer, 20))
        kernel.refuses = ""
        answer = asyncio.get_running_loop().create_future()
        policies.program(ONE, answer.set_result)
        answers.append(await asyncio.wait_for(answer, 20))
        return answers

    assert asyncio.run(main()) == ["the program nft is not installed"] * 2 + [""]
    said = [record.message for record in caplog.records if "not enforced" in record.message]
    assert said == [
        "network policies are not enforced on this node: the program nft is not installed"
    ]
    assert kernel.scripts[-1].startswith("add table")


def test_policy_9_a_change_that_fails_is_a_complete_load(kernel: Kernel) -> None:
    policies = new_policies()
    policies.program_now(ONE)
    policies.program_now(OTHER)
    assert "table ip refk8s_policy_c0ffee00 {" not in kernel.scripts[-1]
    real, failed = kernel._run, list[str]()

    def once(script: str) -> None:
        if not failed:
            failed.append(script)
            raise Unusable("no such table")
        real(script)

    kernel_policies.run_nft = once  # type: ignore[assignment]
    policies.program_now(ONE)
    assert "table ip refk8s_policy_c0ffee00 {" in kernel.scripts[-1]
    count = len(kernel.scripts)
    policies.program_now(ONE)  # the same set once more
    assert "table ip refk8s_policy_c0ffee00 {" in kernel.scripts[count]


def test_policy_11_containers_are_created_after_the_rules_of_their_sandbox(kernel: Kernel) -> None:
    """The result of the sandbox, on which the kubelet creates containers, waits for them."""

    class Engine:
        def carry_out(self, operation: Any) -> Result:
            return SandboxStarted(SANDBOX)

    async def main() -> tuple[int, bool]:
        policies = new_policies()
        policies.program_now(ONE)
        assert "10.244.0.2" not in kernel.scripts[-1]
        runtime = DockerRuntime("c", Path("/nowhere"), "node", "192.0.2.1")
        runtime._made = Engine()  # type: ignore[assignment]
        runtime.on_sandbox = lambda sandbox, then: policies.sandbox_started(
            sandbox.pod_uid, sandbox.ips, then
        )
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        runtime.run(
            RunPodSandbox(SandboxConfig("1", "a", "web")),
            lambda result: seen.set_result(len(kernel.scripts)),
        )
        found = await asyncio.wait_for(seen, 20)
        runtime.close()
        return found, "isolated_in { 10.244.0.2 }" in kernel.scripts[-1]

    assert asyncio.run(main()) == (2, True)


def test_policy_11_an_address_is_of_the_pod_to_which_it_was_given_last(kernel: Kernel) -> None:
    policies = new_policies()
    two = {"a/web": LocalPod("1", ()), "a/db": LocalPod("2", ())}
    policies.program_now(PolicySet(True, Map(two)))
    policies.sandbox_started_now("1", ("10.244.0.2",))
    assert "known { 10.244.0.2 }" in kernel.scripts[-1]
    policies.sandbox_started_now("2", ("10.244.0.2",))
    assert policies._given == {"2": ("10.244.0.2",)}
    policies.sandbox_started_now("1", ())
    for number in range(GIVEN_MAX + 5):
        policies.sandbox_started_now(f"uid-{number}", (f"10.1.{number >> 8}.{number & 255}",))
    assert len(policies._given) == GIVEN_MAX


def test_d_84_simulated_nodes_enforce_no_policies() -> None:
    async def main() -> bool:
        nodes = FakeNodes(2, lambda: 0, SeededChance(b"seed")).start("cluster")
        return all(node.policies is None for node in nodes)

    assert asyncio.run(main())


def test_policy_14_too_many_rules_are_logged_once(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(policy_table, "ELEMENTS_MAX", 1)
    ports = tuple(PortRange("TCP", number, number) for number in (1, 3))
    pod = LocalPod("1", ("10.244.0.2",), ingress=(Allowance("", ports),))
    policies = new_policies()
    for _ in range(2):
        policies.program_now(PolicySet(True, Map({"a/web": pod})))
    said = [record.message for record in caplog.records if "too many" in record.message]
    assert said == [
        "there are too many rules for 10.244.0.2 in network policies: they allow nothing"
    ]
    assert "in_port" not in kernel.scripts[-1].partition("add element")[2]
