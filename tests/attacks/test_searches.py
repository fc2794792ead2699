"""What every search for the smallest perturbation promises; what one promises alone stands in its own file."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.carlini_wagner import carlini_wagner
from pytest_cnnaudit.attacks.ddn import ddn
from pytest_cnnaudit.attacks.deepfool import deepfool
from pytest_cnnaudit.attacks.fab import fab_t
from pytest_cnnaudit.attacks.fmn import fmn
from pytest_cnnaudit.attacks.nearest import nearest
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.attacks.sigma_zero import sigma_zero
from pytest_cnnaudit.results import Cost

NORMS = ["linf", "l2", "l1", "l0"]
WITHIN = {"linf": 0.02, "l2": 0.1, "l1": 0.5}  # an eps for each norm, within which some samples are fooled
steps = st.integers(1, 8)


class Search(NamedTuple):
    """An attack, the settings under which it is asked to keep each promise, and how near it must come."""

    attack: Callable[..., torch.Tensor]
    any_settings: dict[str, st.SearchStrategy[Any]]
    """Under all of these its answers are what they should be."""
    in_batches: list[dict[str, Any]]
    """Under each of these the batch is no matter; few steps, in which samples leave one after the other."""
    enough: dict[str, Any]
    """What takes it to the boundary of a real model."""
    near: dict[str, float]
    """By norm, with `enough`: above the median distance of eight images."""
    towards: dict[str, float]
    """By norm, with `enough`: above the largest distance of four images from a class; empty if it cannot go there."""
    refused: list[tuple[dict[str, Any], str]]
    """Settings that make no sense, and what the error says."""
    standing: dict[str, int] = {}  # noqa: RUF012 - nobody writes to these
    """By norm, how many of eight images may be left for want of steps; none where not named."""
    brief: dict[str, Any] = {"steps": 7}  # noqa: RUF012
    spent: dict[str, Cost] = dict.fromkeys(NORMS, Cost(5 + 3 * 6, 5 + 3 * 5))
    """By norm, with `brief`, on two samples that are fooled as they are and three that nothing fools."""
    dtype: torch.dtype = torch.float64


SEARCHES = {
    "ddn": Search(
        ddn,
        any_settings={
            "norm": st.just("l2"),
            "steps": steps,
            "gamma": st.floats(0.01, 0.5),
            "init_norm": st.floats(0.01, 20),
            "levels": st.sampled_from([None, 2, 17, 256]),
            "targeted": st.booleans(),
        },
        in_batches=[{"steps": 6, "levels": levels} for levels in (None, 256)],
        enough={"steps": 30, "init_norm": 0.2},
        near={"l2": 0.15},  # 0.05 when this was written
        towards={"l2": 0.5},
        refused=[({"steps": 0}, "steps=0"), ({"levels": 1}, "levels=1"), ({"norm": "linf"}, "'linf'")],
    ),
    "fmn": Search(
        fmn,
        any_settings={"norm": st.sampled_from(NORMS), "steps": steps, "targeted": st.booleans()},
        in_batches=[{"norm": norm, "steps": 6} for norm in NORMS],
        enough={"steps": 30},
        near={"linf": 0.004, "l2": 0.15, "l1": 2.5, "l0": 30},
        standing={"l0": 2},  # there is a value more in a step, so that 30 steps are too few for some
        towards={"linf": 0.02, "l2": 0.5, "l1": 10},
        refused=[({"steps": 0}, "steps=0"), ({"norm": "l3"}, "'l3'")],
    ),
    "sigma_zero": Search(
        sigma_zero,
        any_settings={"norm": st.just("l0"), "steps": steps, "targeted": st.booleans()},
        in_batches=[{"steps": 6}],
        enough={"steps": 30},
        near={"l0": 30},
        towards={"l0": 1000},  # of 3072
        refused=[({"steps": 0}, "steps=0"), ({"norm": "l1"}, "'l1'")],
    ),
    "carlini_wagner": Search(
        carlini_wagner,
        any_settings={
            "norm": st.just("l2"),
            "steps": st.integers(1, 12),
            "rounds": st.integers(1, 3),
            "step_size": st.floats(1e-3, 1),
            "init_c": st.floats(1e-3, 100),
            "targeted": st.booleans(),
        },
        in_batches=[{"steps": 4, "rounds": 3, "step_size": 0.1, "init_c": 1.0}],
        enough={"steps": 20, "rounds": 4, "init_c": 0.1},
        near={"l2": 0.25},
        towards={"l2": 1.0},
        refused=[
            ({"steps": 0}, "steps=0"),
            ({"rounds": 0}, "rounds=0"),
            ({"confidence": -1}, "-1"),
            ({"norm": "linf"}, "'linf'"),
        ],
        brief={"steps": 7, "rounds": 1, "init_c": 100.0},
    ),
    "deepfool": Search(
        deepfool,
        any_settings={
            "norm": st.sampled_from(["linf", "l2"]),
            "steps": st.integers(1, 6),
            "overshoot": st.floats(0, 1),
            "classes": st.integers(2, 6),
        },
        in_batches=[{"norm": norm, "steps": 8} for norm in ("linf", "l2")],
        enough={},
        near={"linf": 0.005, "l2": 0.15},
        towards={},
        refused=[({"steps": 0}, "steps=0"), ({"classes": 1}, "classes=1"), ({"norm": "l1"}, "'l1'")],
        brief={"steps": 2},  # the second leads nowhere, so that there is no third
        spent=dict.fromkeys(NORMS, Cost(5 + 3, 5)),
    ),
    "fab_t": Search(
        fab_t,
        any_settings={
            "norm": st.sampled_from(list(WITHIN)),
            "eps": st.none() | st.floats(1e-3, 3),
            "steps": st.integers(1, 5),
            "targets": st.just(2),
            "restarts": st.integers(1, 2),
        },
        in_batches=[
            {"norm": norm, "eps": eps, "steps": 4, "targets": 2, "restarts": 2}
            for norm, within in WITHIN.items()
            for eps in (None, within)
        ],
        enough={"steps": 10, "targets": 3},
        near={"linf": 0.004, "l2": 0.15, "l1": 2.5},
        standing={"l1": 3},
        towards={},
        refused=[
            ({"steps": 0}, "steps=0"),
            ({"targets": 0}, "targets=0"),
            ({"restarts": 0}, "restarts=0"),
            ({"norm": "l0"}, "'l0'"),
        ],
        brief={"steps": 7, "restarts": 3, "targets": 1},
        # One pass ranks the classes; the point that the last step of a run leads to is looked at, too: 3 * 8 looks.
        spent=dict.fromkeys(WITHIN, Cost(5 + 5 + 3 * 23, 5 + 3 * 23)),
        dtype=torch.float32,
    ),
    "nearest": Search(
        nearest,
        any_settings={"norm": st.sampled_from(NORMS), "steps": steps, "targeted": st.booleans()},
        in_batches=[{"norm": norm, "steps": 6} for norm in NORMS],
        enough={"steps": 20},
        near={"linf": 0.003, "l2": 0.1, "l1": 1.5, "l0": 15},
        towards={"linf": 0.01, "l2": 0.3, "l1": 5, "l0": 30},
        refused=[({"steps": 0}, "steps=0"), ({"norm": "l3"}, "'l3'"), ({"confidence": 0.9}, "targeted")],
        # Eight hops come first, the last step goes back, too, and the line search looks four times at what fools.
        spent=dict.fromkeys(WITHIN, Cost(5 + 3 * 14 + 2 * 4, 5 + 3 * 14)) | {"l0": Cost(5 + 3 * 14, 5 + 3 * 14)},
    ),
}
each_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def by_norm(norms):
    """Parametrises over each search and the norms that `norms` picks of it."""
    cases = [
        pytest.param(search, norm, id=f"{name}-{norm}") for name, search in SEARCHES.items() for norm in norms(search)
    ]
    return pytest.mark.parametrize(("search", "norm"), cases)


@each_search
@given(data=st.data(), seed=st.integers(0, 99), stretch=st.floats(1, 10))
def test_answers_are_in_range_and_fool_or_are_the_images(tiny_net, drawn, assert_answers, search, data, seed, stretch):
    chosen = data.draw(st.fixed_dictionaries(search.any_settings))
    images, labels = drawn(seed, stretch=stretch, dtype=search.dtype)
    with AuditModel(tiny_net(seed).to(search.dtype)).borrow() as model:
        result = search.attack(model, images, labels, **chosen)
        assert_answers(model, images, labels, result, targeted=chosen.get("targeted", False))
    assert (length(result - images, chosen["norm"]) <= (chosen.get("eps") or torch.inf)).all()


@each_search
@settings(max_examples=20)
@given(
    data=st.data(), order=st.permutations(range(6)), cut=st.integers(0, 5), at_once=st.none() | st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_neither_batch_size_nor_mates_nor_order_change_a_samples_result(
    assert_batch_is_no_matter, search, data, order, cut, at_once, seed
):
    chosen = data.draw(st.sampled_from(search.in_batches))
    draws = "seeds" in inspect.signature(search.attack).parameters

    def attack(model, images, labels, numbers, at_once=None):
        seeds = {"seeds": 1000 * seed + numbers} if draws else {}
        return search.attack(model, images, labels, at_once=at_once, **chosen, **seeds)

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


@by_norm(lambda search: search.near)
def test_real_images_are_fooled_near_by(resnet20_model, cifar, assert_answers, search, norm):
    images, labels = (each[:8] for each in cifar)
    with resnet20_model.borrow() as model:
        result = search.attack(model, images, labels, norm=norm, **search.enough)
        assert assert_answers(model, images, labels, result) >= 8 - search.standing.get(norm, 0)
    assert length(result - images, norm).median() < search.near[norm]


@by_norm(lambda search: search.towards)
def test_targeted_ends_at_the_target(resnet20_model, cifar, assert_answers, search, norm):
    images = cifar[0][:4]
    with resnet20_model.borrow() as model:
        with torch.no_grad():
            targets = (model(images).argmax(1) + 3) % 10
        result = search.attack(model, images, targets, norm=norm, targeted=True, **search.enough)
        assert assert_answers(model, images, targets, result, targeted=True) == 4
    assert length(result - images, norm).max() < search.towards[norm]


@by_norm(lambda search: search.near)
def test_what_is_fooled_as_it_is_leaves_and_no_pass_is_spent_beyond_the_steps(unfoolable, search, norm):
    model, images = unfoolable
    labels = torch.tensor([0, 0, 1, 1, 1])
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = search.attack(borrowed, images, labels, norm=norm, **search.brief)
        assert borrowed.cost - before == search.spent[norm]
    assert result.equal(images)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        pytest.param(search.attack, options, message, id=f"{name}-{message}")
        for name, search in SEARCHES.items()
        for options, message in search.refused
    ],
)
def test_settings_that_make_no_sense_are_refused(unfoolable, attack, options, message):
    model, images = unfoolable
    with pytest.raises(AuditError, match=message):
        attack(model, images, torch.ones(5, dtype=torch.int64), **options)
