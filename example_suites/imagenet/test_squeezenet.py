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
