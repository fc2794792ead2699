"""SqueezeNet 1.1 with its ImageNet weights."""

import pytest


def test_first_layer_filters_are_more_than_noise(audit):
    audit.assert_filters_smooth()


def test_looks_at_the_object(audit):
    """Grad-CAM at `features` for the true class, on 120 boxed images: the reference is 93% hits, the centre's 82%."""
    saliency = audit.assert_saliency_localized(
        method="grad_cam", layer="features", metric="pointing_game", min_score=0.85
    )
    assert saliency.pointing_game > saliency.centre_point
    assert saliency.energy_in_box >= 0.45


def test_gradients_look_at_the_object_less(audit):
    """The plain gradient, for comparison."""
    saliency = audit.saliency("gradient")
    assert saliency.energy_in_box >= saliency.chance


@pytest.mark.parametrize("audit_samples", ["photos"], indirect=True)
def test_the_elephant_under_attack(audit):
    """Photographs under an invisible perturbation of 1/255: hardly anything is left."""
    attack = audit.attack(norm="linf", eps=1 / 255)
    assert attack.clean_accuracy >= 0.5
    assert attack.robust_accuracy <= 0.2


@pytest.mark.parametrize("audit_samples", ["elephant"], indirect=True)
def test_the_elephant_becomes_a_koala(audit):
    """The smallest change after which the network is nine tenths sure of a koala: nobody sees it."""
    found = audit.fool(None, "koala", norm="l2", confidence=0.9)
    assert found.fooled >= 1.0
    assert found.smallest <= 2.0


@pytest.mark.parametrize("audit_samples", ["photos"], indirect=True)
def test_turning_any_photograph_into_an_ipod_needs_a_change(audit):
    audit.assert_fooling_needs(None, "iPod", norm="l2", at_least=0.05)
