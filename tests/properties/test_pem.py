"""Reading blocks of PEM. Rules VAL-70, CRD-29."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.pem import read_blocks

SLOW = re.compile(r"-----BEGIN ([^\n]*?)-----[ \t]*\r?\n(.*?)-----END \1-----", re.DOTALL)
PARTS = (
    "-----BEGIN A-----\n",
    "-----BEGIN A----- \t\r\n",
    "-----END A-----",
    "QUJD\n",
    "\n",
    "-----",
)


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_val_70_the_blocks_are_those_of_a_plain_search(text: str) -> None:
    assert read_blocks(text) == SLOW.findall(text)


@pytest.mark.parametrize(
    "text,blocks",
    [
        ("-----BEGIN A-----\nx\n-----END B-----\n", []),
        ("-----BEGIN A-----\nx\n-----BEGIN B-----\ny\n-----END B-----\n", [("B", "y\n")]),
        ("-----BEGIN A-----x-----END A-----", []),
    ],
)
def test_val_70_a_block_ends_with_its_own_label(text: str, blocks: list[tuple[str, str]]) -> None:
    assert read_blocks(text) == blocks


@pytest.mark.parametrize(
    "part", ["-----BEGIN A-----\n", "-----BEGIN ", "-----BEGIN A-----\n-----END B-----\n", "-" * 5]
)
def test_val_70_a_text_without_blocks_is_read_in_a_time_that_grows_with_its_length(
    part: str,
) -> None:
    # With a search from each BEGIN to the end, a megabyte takes many minutes.
    assert read_blocks(part * ((1 << 20) // len(part))) == []
