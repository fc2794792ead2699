"""An undefended network: sound inside, helpless under attack."""

import pytest


def test_first_layer_filters_are_more_than_noise(audit):
    audit.assert_filters_smooth()


def test_grad_cam_finds_the_image_in_the_grid(audit):
    """Of four images in a grid, the last stage looks at the one of the class in question."""
    audit.assert_saliency_localized(metric="grid_pointing_game", min_score=0.6)


def test_plain_gradients_hardly_find_it(audit):
    """A plain gradient is barely better than chance (0.25): a map that looks like something need not explain it."""
    saliency = audit.saliency("gradient", grid=2)
    assert saliency.chance < saliency.grid_pointing_game < 0.45


def test_is_accurate(audit):
    attack = audit.attack(norm="linf", eps=0.25 / 255)
    assert attack.clean_accuracy >= 0.85
    assert attack.robust_accuracy >= 0.3


def test_no_defence_against_eight_steps_of_255(audit):
    """The standard eps of the literature: an undefended network keeps nothing."""
    attack = audit.attack(norm="linf", eps=8 / 255, attack="pgd", steps=20)
    assert attack.robust_accuracy <= 0.02


def test_asking_for_robustness_fails_the_build(audit):
    """What a failing gate looks like. It stops as soon as the verdict is certain."""
    with pytest.raises(AssertionError, match=r"robust accuracy 0\.\d+ .* >= 0\.35"):
        audit.assert_robust(norm="linf", eps=4 / 255, min_accuracy=0.35)
