import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.attacks.ddn import ddn
from pytest_cnnaudit.attacks.norms import length


@settings(max_examples=8)
@given(seed=st.integers(0, 999), targeted=st.booleans())
def test_a_linear_classifier_is_fooled_at_the_distance_to_its_boundary(linear, seed, targeted):
    model, images, labels, distances = linear(seed)
    result = ddn(model, images, 1 - labels if targeted else labels, targeted=targeted)
    ratio = length(result - images, "l2") / distances["l2"]
    assert (ratio > 1).all()
    assert (ratio < 1.01).all()


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
