# ruff: noqa: NPY002 (the global generator is what must not change)
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from pytest_cnnaudit.lenses import filter_banks as lens


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(a, b):
    """Every shift with an overlap, pixel by pixel: the |cosine| of each pair at its best, signed."""
    found = np.zeros((len(a), len(b)))
    shifts = np.zeros((len(a), len(b), 2), int)
    for one, first in enumerate(a):
        for other, second in enumerate(b):
            for down in range(1 - second.shape[1], first.shape[1]):
                for across in range(1 - second.shape[2], first.shape[2]):
                    total = sum(
                        first[channel, y, x] * second[channel, y - down, x - across]
                        for channel in range(len(first))
                        for y in range(max(0, down), min(first.shape[1], down + second.shape[1]))
                        for x in range(max(0, across), min(first.shape[2], across + second.shape[2]))
                    )
                    cosine = total / np.sqrt((first**2).sum() * (second**2).sum())
                    if abs(cosine) > abs(found[one, other]):
                        found[one, other], shifts[one, other] = cosine, (down, across)
    return found, shifts


@pytest.mark.parametrize("sizes", [((3, 3), (3, 3)), ((5, 4), (2, 3)), ((2, 2), (5, 5)), ((1, 4), (3, 1))])
def test_cosines_and_shifts_are_those_of_the_sum_written_out(sizes):
    a, b = noise(4, 2, *sizes[0]), noise(3, 2, *sizes[1], seed=1)
    cosines, shifts = written_out(a.numpy(), b.numpy())
    found = lens.align(a, b)
    np.testing.assert_allclose(found.cosine.numpy(), cosines, atol=1e-12)
    assert found.shift.tolist() == shifts.tolist()
    match = lens.best_match(a, b)
    assert match.filter.tolist() == np.abs(cosines).argmax(1).tolist()
    np.testing.assert_allclose(match.cosine.numpy(), np.abs(cosines).max(1), atol=1e-12)


@given(
    seed=st.integers(0, 999),
    order=st.permutations(range(4)),
    steps=st.lists(st.tuples(st.integers(-2, 2), st.integers(-3, 3)), min_size=4, max_size=4),
    scales=st.lists(st.sampled_from([-1e-30, -1.0, 1.0, 1e30]), min_size=4, max_size=4),
)
def test_copies_that_are_moved_negated_scaled_and_shuffled_are_found(seed, order, steps, scales):
    bank = torch.zeros(4, 3, 8, 11, dtype=torch.float64)
    bank[:, :, 2:6, 3:8] = noise(4, 3, 4, 5, seed=seed)
    copies = torch.stack([scales[k] * bank[k].roll(steps[k], (1, 2)) for k in order])
    match = lens.best_match(bank, copies)
    assert match.cosine.tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert [order[found] for found in match.filter.tolist()] == [0, 1, 2, 3]
    assert match.shift.tolist() == [[-down, -across] for down, across in steps]  # back to where they came from
    assert match.sign.tolist() == [np.sign(scale) for scale in scales]


@given(
    seed=st.integers(0, 999),
    order=st.permutations(range(5)),
    scales=st.lists(st.sampled_from([-3.0, 1e-6]), min_size=5, max_size=5),
)
def test_the_best_cosines_do_not_change_with_order_sign_or_scale(seed, order, scales):
    bank, other = noise(3, 2, 3, 3, seed=seed), noise(5, 2, 4, 4, seed=seed + 1)
    changed = torch.tensor(scales, dtype=torch.float64)[:, None, None, None] * other[order]
    before, after = lens.best_match(bank, other), lens.best_match(bank, changed)
    torch.testing.assert_close(after.cosine, before.cosine)
    assert [order[found] for found in after.filter.tolist()] == before.filter.tolist()
    assert torch.equal(after.shift, before.shift)
    torch.testing.assert_close(
        lens.best_match(changed, bank).cosine[np.argsort(order)], lens.best_match(other, bank).cosine
    )


@given(seed=st.integers(0, 999))
def test_turned_is_the_alignment_the_other_way_round(seed):
    bank, other = noise(3, 2, 3, 5, seed=seed), noise(4, 2, 4, 2, seed=seed + 1)
    turned, direct = lens.align(bank, other).turned, lens.align(other, bank)
    torch.testing.assert_close(turned.cosine, direct.cosine)
    assert torch.equal(turned.shift, direct.shift)


def test_filters_without_a_common_channel_are_at_a_right_angle():
    bank = torch.zeros(2, 2, 3, 3)
    bank[0, 0], bank[1, 1] = 1, 1
    assert lens.align(bank, bank).cosine.tolist() == pytest.approx(np.eye(2))


def test_the_norms_are_of_the_whole_filters_and_equal_shifts_go_to_the_middle():
    """An inner 3×3 of ones agrees with 5×5 of ones perfectly where they overlap; of the whole it is 9 / (3 · 5)."""
    found = lens.align(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3))
    assert float(found.cosine) == pytest.approx(0.6)
    assert found.shift.tolist() == [[[1, 1]]]
    assert found.turned.shift.tolist() == [[[-1, -1]]]


def test_a_sliver_that_overlaps_counts_as_little_as_it_is():
    left, right = torch.zeros(1, 1, 1, 9), torch.zeros(1, 1, 1, 9)
    left[..., :5], right[..., 4:] = torch.tensor([1.0, -1, 1, -1, 1]), torch.tensor([1.0, 1, 1, 1, 1])
    assert float(lens.align(left, right).cosine) == pytest.approx(1 / 5)


def test_a_filter_of_zeros_matches_nothing():
    bank = noise(3, 1, 3, 3)
    bank[1] = 0
    match = lens.best_match(bank, noise(4, 1, 3, 3, seed=1))
    assert match.cosine.isnan().tolist() == [False, True, False]
    assert (match.filter[1], match.sign[1]) == (-1, 0)
    assert 1 not in lens.best_match(noise(40, 1, 3, 3, seed=2), bank).filter
    assert lens.best_match(bank, torch.zeros(2, 1, 3, 3)).filter.tolist() == [-1] * 3


def test_pieces_say_the_same_as_the_whole(monkeypatch):
    bank, other = noise(7, 3, 5, 5), noise(6, 3, 3, 3, seed=1)
    whole = lens.align(bank, other)
    monkeypatch.setattr(lens, "_SLICE", 2 * 6 * 49)
    pieces = lens.align(bank, other)
    torch.testing.assert_close(pieces.cosine, whole.cosine)
    assert torch.equal(pieces.shift, whole.shift)


@given(seed=st.integers(0, 999), size=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_moved_to_fit_a_filter_has_the_cosine_that_was_found(seed, size):
    bank, other = noise(2, 3, 4, 4, seed=seed), noise(2, 3, *size, seed=seed + 1)
    match = lens.best_match(bank, other)
    for k in range(2):
        which = int(match.filter[k])
        there = match.sign[k] * lens.moved(other[which], match.shift[k].tolist(), bank.shape)
        assert float((bank[k] * there).sum() / (bank[k].norm() * other[which].norm())) == pytest.approx(
            float(match.cosine[k])
        )


def test_a_filter_that_is_moved_out_of_the_frame_leaves_it_empty():
    for shift in ((4, 0), (-3, 0), (0, -5), (0, 9)):
        assert not lens.moved(torch.ones(1, 3, 3), shift, (4, 4)).any()


def test_smooth_noise_has_the_mean_of_the_second_moments_of_the_unit_filters():
    banks = [noise(4, 2, 3, 3) * torch.tensor([1.0, 10, 100, 1000])[:, None, None, None], noise(2, 2, 3, 3, seed=1)]
    rows = [torch.nn.functional.normalize(bank.flatten(1), dim=1) for bank in banks]
    drawn = lens.smooth_noise((20_000, 2, 3, 3), banks, seed=0).flatten(1)
    expected = rows[0].T @ rows[0] / 4 + rows[1].T @ rows[1] / 2
    torch.testing.assert_close(drawn.T @ drawn / len(drawn), expected, atol=0.02, rtol=0)


def test_smooth_noise_lays_kernels_of_another_size_middle_on_middle():
    bank = torch.zeros(1, 1, 5, 5)
    bank[..., 1, 3] = 1
    inside = lens.smooth_noise((2, 1, 3, 3), [bank], seed=0)
    assert inside.nonzero().tolist() == [[0, 0, 0, 2], [1, 0, 0, 2]]
    around = lens.smooth_noise((1, 1, 7, 9), [bank], seed=0)
    assert around.nonzero().tolist() == [[0, 0, 2, 5]]


def test_white_noise_has_neither_colour_nor_spectrum():
    drawn = lens.white_noise((5000, 2, 2, 2), seed=0).flatten(1)
    torch.testing.assert_close(drawn.T @ drawn / len(drawn), torch.eye(8, dtype=torch.float64), atol=0.06, rtol=0)


@pytest.mark.parametrize("draw", [lens.white_noise, partial(lens.smooth_noise, banks=[noise(3, 2, 3, 3)])])
def test_noise_follows_from_its_seed_and_leaves_the_global_generators_alone(draw):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = draw((4, 2, 3, 3), seed=5)
    assert first.shape == (4, 2, 3, 3)
    assert torch.equal(first, draw((4, 2, 3, 3), seed=5))
    assert not torch.equal(first, draw((4, 2, 3, 3), seed=6))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
