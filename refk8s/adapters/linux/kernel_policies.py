"""The network policies of a node in the kernel of this machine, by `nft`. Rules POLICY-9 to
POLICY-13 (spec/network_policy.md).

A change is one transaction of one `nft` process. The whole set is loaded, also in one transaction,
if a change fails because another program flushed the tables; if it is the first set of this
process; or if the same set comes again. Without policies there is no table, so that a cluster that
has none pays nothing.

Packets between pods of one bridge pass the node's filter only if the kernel module `br_netfilter`
is loaded and switched on.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from refk8s.adapters.linux.nft import Unusable, remove_table, run_nft
from refk8s.adapters.linux.tools import output_of
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.network.policy_script import change_script, load_script
from refk8s.core.network.policy_table import (
    NO_TABLE,
    TOO_MANY_BLOCKS,
    Change,
    change_policies,
    with_addresses,
)
from refk8s.core.ports import NO_POLICIES, PolicySet

log = logging.getLogger("refk8s")

BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
BRIDGED6 = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
GIVEN_MAX = 4096
"""Addresses that the runtime gave to pods and that are remembered."""
UNKNOWN, ABSENT, LOADED = "unknown", "absent", "loaded"


class KernelPolicies:
    """The policies of one node. One thread executes all work, in order."""

    def __init__(self, cluster_id: str, pod_cidr: Callable[[], tuple[str, str]]) -> None:
        """`pod_cidr` returns the pod range, or why it is unknown; it is slow."""
        self.name = f"refk8s_policy_{cluster_id[:8]}"
        self._pod_cidr = pod_cidr
        self._pods = ""
        self._policies = NO_POLICIES
        self._table = NO_TABLE
        self._state = UNKNOWN  # of the table in the kernel
        self._given: dict[str, tuple[str, ...]] = {}  # pod uid -> addresses
        self._bridged_before: dict[Path, str] = {}
        self._warn_once = WarnOnce()
        self._worker = ThreadPoolExecutor(1, "refk8s-policies")

    def program(self, policies: PolicySet, done: Callable[[str], None]) -> None:
        """Enforce these policies. `done` gets "", or why the node does not, in the event loop's
        thread."""
        self._submit(lambda: self.program_now(policies), done)

    def sandbox_started(
        self, pod_uid: str, addresses: tuple[str, ...], then: Callable[[], None]
    ) -> None:
        """The runtime gave a pod its address. The rules of the pod are in effect when `then` is
        called, if they are known; otherwise the pod is held (POLICY-10, POLICY-11)."""
        self._submit(lambda: self.sandbox_started_now(pod_uid, addresses), lambda _: then())

    def _submit(self, work: Callable[[], str], done: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()

        def job() -> None:
            try:
                error = work()
            except Unusable as unusable:
                error = str(unusable)
            except Exception as bug:  # also answered, since the machine waits for it
                error = f"{type(bug).__name__}: {bug}"
                log.exception("the network policies failed with an internal error")
            if error:
                self._warn_once(f"network policies are not enforced on this node: {error}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, error)

        self._worker.submit(job)

    def program_now(self, policies: PolicySet) -> str:
        """Enforce these policies, and wait until they are in effect. Returns what is not enforced.

        Raises Unusable if the kernel rejects them; those before are then still in effect.
        """
        again = policies is self._policies
        self._policies = policies
        if not policies.active:
            self._remove_table()
            return ""
        problem = self._pass_bridged_packets()
        self._enforce(again)
        return problem

    def sandbox_started_now(self, pod_uid: str, addresses: tuple[str, ...]) -> str:
        """The same as `sandbox_started`; waits until the rules are in effect."""
        given = {
            uid: known
            for uid, known in self._given.items()
            if uid != pod_uid and not {*known} & {*addresses}
        }
        if addresses:
            given[pod_uid] = addresses
        self._given = dict(list(given.items())[-GIVEN_MAX:])
        if self._policies.active and self._state == LOADED:
            self._enforce(again=False)
        return ""

    def remove(self) -> None:
        """Remove the table, also that of an earlier process of this cluster, and restore the
        setting (POLICY-13). No policies are enforced afterwards."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        try:
            self._remove_table()
        except Unusable as error:
            words = "the network policies are left behind, in the table"
            log.warning("%s %s: %s", words, self.name, error)

    # --- in the worker thread ---------------------------------------------------------------------

    def _enforce(self, again: bool) -> None:
        policies = with_addresses(self._policies, self._given)
        table, change = change_policies(self._table, policies)
        if self._state != LOADED or again or not self._change(change):
            table, change = change_policies(NO_TABLE, policies)
            run_nft(load_script(self.name, self._range(), change))
            self._state = LOADED
        self._table = table
        for problem in change.problems:
            what = "blocks of addresses" if problem == TOO_MANY_BLOCKS else f"rules for {problem}"
            self._warn_once(f"there are too many {what} in network policies: they allow nothing")

    def _change(self, change: Change) -> bool:
        try:
            if change:
                run_nft(change_script(self.name, change, has_six=":" in self._pods))
        except Unusable as error:
            log.info("the network policies are loaded anew: %s", error)
            return False
        return True

    def _remove_table(self) -> None:
        """Raises Unusable if the table exists and cannot be removed."""
        if self._state != ABSENT:
            try:
                remove_table(self.name)
            except Unusable:
                if self._state == LOADED:
                    raise
                # without nft, or the right to use it, no earlier process had a table either
        self._table, self._state = NO_TABLE, ABSENT
        for path, value in self._bridged_before.items():
            write_setting(value, path)
        self._bridged_before.clear()

    def _range(self) -> str:
        if not self._pods:
            self._pods, problem = self._pod_cidr()
            if problem:
                self._pods = ""
                raise Unusable(problem)
        return self._pods

    def _pass_bridged_packets(self) -> str:
        """Let packets between pods of the bridge pass the filter; returns why they do not."""
        for path in (BRIDGED, BRIDGED6) if ":" in self._range() else (BRIDGED,):
            value = read_setting(path)
            if value is None:
                output_of("modprobe", "br_netfilter")
                value = read_setting(path)
            if value is None:
                words = "the kernel module br_netfilter is missing"
                return f"{words}, so pods of this node reach each other"
            if value == "1":
                continue
            if not write_setting("1", path):
                return f"{path} cannot be set, so pods of this node reach each other"
            self._bridged_before[path] = value
        return ""


def read_setting(path: Path = BRIDGED) -> str | None:
    """The setting of this thread's network namespace; None without the kernel module."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def write_setting(value: str, path: Path = BRIDGED) -> bool:
    """Whether it could be set."""
    try:
        path.write_text(value)
    except OSError:
        return False
    return True
