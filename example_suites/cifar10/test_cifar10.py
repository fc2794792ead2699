"""An undefended network, sound inside and helpless under attack, beside one that was trained to hold."""

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


@pytest.mark.parametrize("audit_model", ["resnet20", "resnet4b"], indirect=True)
def test_accuracy_falls_with_eps(audit):
    """The robustness curve of both networks, for little more than the price of one radius."""
    curve = audit.robustness_curve("linf", eps=[0.25 / 255, 0.5 / 255, 1 / 255, 2 / 255, 4 / 255])
    assert curve.at(4 / 255) <= curve.at(0.25 / 255) <= curve.clean_accuracy


def test_an_invisible_change_is_enough(audit):
    """Half of the images of the undefended network fall by an L2 change of less than 0.15."""
    found = audit.min_perturbation("l2")
    assert found.fooled >= 1.0
    assert found.median <= 0.15


@pytest.mark.parametrize("audit_model", ["resnet4b"], indirect=True)
def test_the_defended_network_needs_a_larger_one(audit):
    """Several times as much; and five in a hundred of what it classifies may fall by less."""
    audit.assert_min_perturbation("l2", median=0.25)


@pytest.mark.parametrize("audit_model", ["resnet4b"], indirect=True)
def test_holds_within_the_radius_it_was_trained_for(audit):
    """Published: 61.41% at 2/255. The verdict comes long before all samples have met all attacks."""
    audit.assert_robust("linf", 2 / 255, min_accuracy=0.5, auto="standard")


@pytest.mark.parametrize("audit_model", ["resnet20", "resnet4b"], indirect=True)
def test_its_robustness_is_what_it_seems(audit):
    """No sign of gradient masking: the checklist of Carlini et al. 2019."""
    audit.assert_no_gradient_masking("linf", 2 / 255, limit=32)


def test_filters_of_both_networks_side_by_side(audit, defended_model):
    """Sixteen filters of 3×3 on either side: hardly more alike than noise that is as smooth and as coloured."""
    audit.filter_banks(defended_model)


@pytest.mark.parametrize("audit_model", ["resnet20", "resnet4b"], indirect=True)
def test_what_is_near_in_feature_space_is_of_one_kind(audit):
    """Five nearest neighbours by features and by pixels, with the labels they carry."""
    audit.assert_neighbours_agree()


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
def test_the_map_is_what_the_network_needs(audit, method):
    """Insertion and deletion beat those of the same map moved elsewhere."""
    audit.assert_saliency_faithful(method)


def test_an_edge_detector_explains_nothing(audit):
    """What ignores the network looks the same when all of its weights are drawn anew."""

    def edges(model, images, targets):
        return images.diff(dim=3, prepend=images[..., :1]).abs().amax(1)

    with pytest.raises(AssertionError, match=r"similarity 1\.00 .* <= 0\.75"):
        audit.assert_saliency_sane(edges)
    audit.assert_saliency_sane("grad_cam")
