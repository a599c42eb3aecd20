"""The kubelet of a node: KUBELET-1 ... KUBELET-82 (spec/kubelet.md)."""

from hypothesis import given, settings
from hypothesis import strategies as st
from kubelet_chaos import Chaos

tapes = st.lists(st.integers(0, 4095), max_size=150)


@settings(max_examples=120, deadline=None)
@given(tapes)
def test_kubelet_whatever_happens_to_a_node_its_laws_hold_and_it_settles(tape):
    """KUBELET-2, KUBELET-4, KUBELET-16, KUBELET-30, KUBELET-32, KUBELET-42; POD-3, POD-10, POD-11, POD-13, POD-15, POD-18."""
    Chaos().play(tape).mend().settled()
