import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy import stats

from pytest_cnnaudit import draws
from pytest_cnnaudit.draws import draw

integers = st.integers(-(2**63), 2**63 - 1)


def test_the_hash_is_splitmix64():
    """The first outputs of the public reference implementation for the seed 1234567."""
    state = torch.tensor([1234567]) + draws._GAMMA * torch.arange(1, 6)
    assert [int(value) % 2**64 for value in draws._mix(state)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(rows=st.lists(st.tuples(integers, st.integers(0, 10**6)), min_size=1, max_size=6), count=st.integers(0, 9))
def test_a_samples_numbers_depend_on_its_seed_and_step_alone(rows, count):
    seeds, steps = torch.tensor(rows).T
    together = draw(seeds, steps, count)
    assert together.shape == (len(rows), count)
    assert together.equal(torch.cat([draw(seeds[i : i + 1], steps[i : i + 1], count) for i in range(len(rows))]))
    assert together.equal(draw(seeds, steps, count + 3)[:, :count])


@given(
    rows=st.lists(st.tuples(integers, st.integers(0, 10**6)), min_size=2, max_size=6, unique=True),
)
def test_other_seeds_and_other_steps_are_other_numbers(rows):
    seeds, steps = torch.tensor(rows).T
    assert len(draw(seeds, steps, 8).unique(dim=0)) == len(rows)


@pytest.mark.parametrize("varied", ["seeds", "steps", "positions"])
def test_numbers_are_uniform_and_neighbours_have_nothing_in_common(varied):
    n = 20_000
    many, one = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    if varied == "positions":
        numbers = draw(torch.tensor([3]), torch.tensor([5]), n)[0]
    else:
        numbers = draw(*((many, one) if varied == "seeds" else (one, many)), 1)[:, 0]
    assert 0 <= numbers.min() < numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert stats.spearmanr(numbers[1:], numbers[:-1]).pvalue > 0.001
    cells = torch.histogramdd(torch.stack([numbers[::2], numbers[1::2]], 1), bins=10, range=[0.0, 1.0, 0.0, 1.0]).hist
    assert stats.chisquare(cells.flatten()).pvalue > 0.001


def test_every_bit_of_a_number_is_as_often_one_as_zero():
    bits = (draw(torch.arange(5000), torch.arange(5000), 4) * 2**24).long().flatten()
    ones = torch.stack([(bits >> k) & 1 for k in range(24)]).sum(1).tolist()
    assert min(stats.binomtest(count, len(bits)).pvalue for count in ones) > 0.001 / 24


@given(size=st.integers(1, 10**6))
def test_the_largest_number_still_makes_an_index(size):
    assert (torch.tensor(1 - 2**-24) * torch.tensor(size)).long() < size


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    draw(torch.tensor([1]), torch.tensor([2]), 3)
    assert torch.get_rng_state().equal(before)
