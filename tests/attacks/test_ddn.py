import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.ddn import ddn
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost


@given(
    steps=st.integers(1, 8),
    gamma=st.floats(0.01, 0.5),
    init_norm=st.floats(0.01, 20),
    levels=st.sampled_from([None, 2, 17, 256]),
    targeted=st.booleans(),
    seed=st.integers(0, 99),
    stretch=st.floats(1, 10),
)
def test_answers_are_in_range_and_fool_or_are_the_images(
    tiny_net, drawn, assert_answers, steps, gamma, init_norm, levels, targeted, seed, stretch
):
    images, labels = drawn(seed, stretch=stretch)
    with AuditModel(tiny_net(seed)).borrow() as model:
        result = ddn(
            model, images, labels, steps=steps, gamma=gamma, init_norm=init_norm, levels=levels, targeted=targeted
        )
        assert_answers(model, images, labels, result, targeted=targeted)


@settings(max_examples=15)
@given(
    order=st.permutations(range(6)), cut=st.integers(0, 5), at_once=st.none() | st.integers(1, 4),
    levels=st.sampled_from([None, 256]), seed=st.integers(0, 99),
)  # fmt: skip
def test_neither_batch_size_nor_mates_nor_order_change_a_samples_result(
    assert_batch_is_no_matter, order, cut, at_once, levels, seed
):
    def attack(model, images, labels, number, **settings):
        return ddn(model, images, labels, steps=6, levels=levels, seeds=number, **settings)

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


@settings(max_examples=8)
@given(seed=st.integers(0, 999), targeted=st.booleans())
def test_a_linear_classifier_is_fooled_at_the_distance_to_its_boundary(linear, seed, targeted):
    model, images, labels, distances = linear(seed)
    result = ddn(model, images, 1 - labels if targeted else labels, targeted=targeted)
    ratio = length(result - images, "l2") / distances["l2"]
    assert (ratio > 1).all()
    assert (ratio < 1.01).all()


def test_real_images_are_fooled_near_by(resnet20_model, cifar, assert_answers):
    images, labels = (each[:8] for each in cifar)
    with resnet20_model.borrow() as model:
        result = ddn(model, images, labels, steps=30, init_norm=0.2)
        assert assert_answers(model, images, labels, result) == 8
    assert length(result - images, "l2").median() < 0.15  # 0.11 when this was written


def test_targeted_ends_at_the_target(resnet20_model, cifar, assert_answers):
    images = cifar[0][:4]
    with resnet20_model.borrow() as model:
        with torch.no_grad():
            targets = (model(images).argmax(1) + 3) % 10
        result = ddn(model, images, targets, steps=30, targeted=True)
        assert assert_answers(model, images, targets, result, targeted=True) == 4


def test_answers_have_the_values_of_8_bit_images(resnet20_model, cifar):
    images, labels = (each[:8] for each in cifar)
    result = ddn(resnet20_model, images, labels, steps=30, levels=256)
    assert (result * 255).round().div(255).equal(result)
    assert (length(result - images, "linf") > 0).all()


class Flat(nn.Module):
    """Tells nothing on a spot around the image: logit₀ − logit₁ = 1 where Σ|x − ½| < 3, and falls outside."""

    def forward(self, images):
        score = 1 - 4 * ((images - 0.5).abs().flatten(1).sum(1) - 3).relu()
        return torch.stack([score, -score], 1)


def test_a_flat_spot_is_left_in_a_direction_that_follows_from_the_seed(assert_answers):
    images, labels = torch.full((3, 3, 4, 4), 0.5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    model = AuditModel(Flat())
    found = [ddn(model, images, labels, steps=20, seeds=torch.tensor(seeds)) for seeds in ([1, 2, 1], [1, 3, 1])]
    assert assert_answers(model, images, labels, found[0]) == 3
    assert found[0][0].equal(found[0][2])
    assert found[0][0].equal(found[1][0])
    assert not found[0][1].equal(found[1][1])


def test_what_is_fooled_as_it_is_leaves_and_the_last_step_goes_not_back(unfoolable):
    model, images = unfoolable
    labels = torch.tensor([0, 0, 1, 1, 1])
    with model.borrow() as borrowed:
        before = borrowed.cost
        result = ddn(borrowed, images, labels, steps=7)
        assert borrowed.cost - before == Cost(5 + 3 * 6, 5 + 3 * 5)
    assert result.equal(images)


@pytest.mark.parametrize("levels", [None, 256])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_answers_are_those_of_adv_lib(adv_lib, monkeypatch, compared, levels, targeted):
    model, images, labels = compared
    labels = (labels + 1) % 4 if targeted else labels
    monkeypatch.setattr(torch, "float", torch.float64)  # they ask for it by name, to keep ε in

    def unsure(images):  # the gradient of their cross-entropy is rounded off where a model is sure
        return model(images) / 10

    ours = ddn(unsure, images, labels, steps=25, levels=levels, targeted=targeted)
    theirs = adv_lib.ddn(unsure, images, labels, steps=25, levels=levels, targeted=targeted)
    assert (theirs != images).flatten(1).any(1).sum() >= 7  # otherwise this test says little
    assert (ours - theirs).abs().max() <= 1e-8


@pytest.mark.parametrize(
    ("options", "message"), [({"steps": 0}, "steps=0"), ({"levels": 1}, "levels=1"), ({"norm": "linf"}, "'linf'")]
)
def test_settings_that_make_no_sense_are_refused(unfoolable, options, message):
    model, images = unfoolable
    with pytest.raises(AuditError, match=message):
        ddn(model, images, torch.ones(5, dtype=torch.int64), **options)
