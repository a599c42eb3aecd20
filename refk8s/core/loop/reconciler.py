"""A reconciler, and the resources that it watches. Rules LOOP-1 ... (spec/loop.md).

The loop (`loop.py`) watches, queues, retries and waits. A reconciler only reads a view and returns
a plan.
"""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import User
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Key, Local, Plan
from refk8s.core.loop.view import Fold, Index, View, key_of
from refk8s.core.ports import Operation, Result
from refk8s.core.value import Value

KeysOf = Callable[[View, Any | None, Any | None], Iterable[Key]]


def own_key(view: View, old: Any | None, new: Any | None) -> tuple[Key]:
    """The changed object's own key."""
    return (key_of(new if new is not None else old),)


def no_keys(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """None: the reconciler reads the resource when a key is due for another reason."""
    return ()


class Interest(Value, frozen=True, eq=False):
    """A resource that a reconciler watches, and the keys that a change of it concerns.

    All reconcilers of a loop share one watch per resource. With `while_any`, the resource is listed
    and watched only after an object of that other resource exists (LOOP-14).
    """

    resource: Resource
    keys: KeysOf
    field_selector: str = ""
    label_selector: str = ""
    while_any: Resource | None = None


class Reconciler:
    """A reconciler: pure and level-based. A subclass names what it watches and reconciles one key.

    `reconcile` has four marked phases, always in this order: Observe (from the view), Decide
    (arithmetic on plain values), Act (requests), Report (status, notes, when to reconcile again).
    """

    name: str = ""
    # the user of its requests; None: the service account of its name in kube-system
    user: User | None = None
    # the source of its Events, as `kubectl describe` shows it; empty: the loop's
    component: str = ""
    interests: tuple[Interest, ...] = ()
    indexes: tuple[Index, ...] = ()
    folds: tuple[Fold, ...] = ()
    # the keys that a change of a custom object concerns: objects of every custom resource are
    # watched (LOOP-15). It needs an interest in their definitions
    custom_keys: KeysOf | None = None
    # reconcilers of one loop with the same memory_name share their memory; empty: its own
    memory_name: str = ""
    initial_keys: tuple[Key, ...] = ()

    def start_memory(self, now: Instant) -> Any:
        """The reconciler's memory at the start."""
        return None

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """The plan for this key."""
        raise NotImplementedError

    def ran(
        self, memory: Any, key: Key, operation: Operation, result: Result, now: Instant
    ) -> tuple[Any, Iterable[Key]]:
        """Handle an operation's result of this key's plan: new memory, and keys to reconcile."""
        return memory, (key,)

    def answered(
        self, memory: Any, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Any, Iterable[Key]]:
        """Handle the response to one of a plan's `queries`: new memory, and keys to reconcile.

        None: there was no response.
        """
        return memory, (key,)

    def runtime_changed(
        self, memory: Any, pod_uids: tuple[str, ...], now: Instant
    ) -> tuple[Any, Iterable[Key]]:
        """Handle a change that the runtime reports without an operation."""
        return memory, ()
