"""Data as bytes: injective, and blind to what does not matter."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.canonical import NotPlainError, canonical, contents

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
)
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other):
    """Equal in value and type, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@given(one=PLAIN, other=PLAIN)
def test_two_values_have_the_same_bytes_only_where_they_are_the_same(one, other):
    assert (canonical(one) == canonical(other)) == same(one, other)


DIFFERENT = [
    None, 0, 1, 1.0, True, False, "1", b"1", "", (), [], {}, set(), frozenset(), (1,), [1], {1}, {"a": 1}, {"a": True},
    ["a", "b"], ("a", "b"), ("ab",), ("a", ("b",)), (("a",), "b"), ["a", "", "b"], ["a", "b", ""], ["a;builtins.strb"],
    {"a": "b", "c": "d"},
    {"a": "d", "c": "b"}, slice(1), slice(1, None), slice(1, 1), range(1), range(1, 1), range(0, 2, 2), Path("a"), "a",
    np.float32(1), np.float64(1), np.int64(1), np.bool_(True), 1j, ..., 0.0, -0.0, math.inf, 10**30, 1e30, (None,),
]  # fmt: skip


def test_what_differs_in_value_or_type_differs():
    found = [canonical(value) for value in DIFFERENT]
    assert len(set(found)) == len(found)


@given(items=st.dictionaries(st.text(max_size=3) | st.integers(), LEAVES, max_size=6), draw=st.data())
def test_the_order_of_a_dict_and_of_a_set_plays_no_part(items, draw):
    shuffled = draw.draw(st.permutations(list(items.items())))
    assert canonical(dict(shuffled)) == canonical(items)
    assert canonical({key for key, _ in shuffled}) == canonical(set(items))


@pytest.mark.parametrize("value", [Fraction(1, 2), len, object(), lambda: 0, np.zeros(2), int])
def test_what_is_not_plain_is_refused_however_deep(value):
    for holder in (value, [value], {"a": (1, {"b": value})}, {1: value}):
        with pytest.raises(NotPlainError, match=r"a .+ is not plain data"):
            canonical(holder)
    assert canonical([value], lambda _: b"it") != canonical([value], lambda _: b"other")


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=12), place=st.integers(0, 11), change=st.integers(1, 255)
)
def test_one_number_of_a_tensor_changes_its_content(values, place, change):
    tensor = torch.tensor(values, dtype=torch.uint8)
    before = contents([tensor, tensor.flip(0)])
    tensor[place % len(values)] += change
    assert contents([tensor])[0] != before[0]


def test_dtype_and_shape_count_and_memory_does_not():
    zeros = torch.zeros(2, 4)
    kinds = [zeros, zeros.view(4, 2), zeros.view(8), zeros.view(torch.int32), zeros.double(), zeros[:0], zeros.bool()]
    assert len(set(contents(kinds))) == len(kinds)
    image = torch.rand(2, 3, 4, 5)
    views = [
        image,
        image.contiguous(memory_format=torch.channels_last),
        image.transpose(0, 1).contiguous().transpose(0, 1),
    ]
    assert len(set(contents(views))) == 1
    complex_one = torch.tensor([1 + 2j])
    assert contents([complex_one.conj()]) == contents([torch.tensor([1 - 2j])]) != contents([complex_one])


def test_many_pieces_are_as_few():
    """More than one piece, and enough bytes for threads."""
    large = torch.arange(3 * 2**20, dtype=torch.int32)
    assert contents([large, large[:5]]) == [contents([large])[0], contents([large[:5]])[0]]
