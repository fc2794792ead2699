"""What a release of this network must pass."""


def test_first_layer_filters_are_smooth(audit):
    """The filters of the first layer are edges and blobs, not noise."""
    audit.assert_filters_smooth(max_roughness=0.4, max_variance_entropy_ratio=0.85)


def test_deeper_filters_are_more_than_noise(audit):
    """With no threshold given, a layer is held against white noise of its own shape."""
    audit.assert_filters_smooth("stage3.conv2")


def test_looks_at_the_object(audit):
    """The brightest spot of Grad-CAM lies on the object."""
    audit.assert_saliency_localized(method="grad_cam", metric="pointing_game", min_score=0.9)


def test_looks_at_little_else(audit):
    """Plain asserts on a measurement tell the same story when they fail."""
    saliency = audit.saliency("grad_cam")
    assert saliency.energy_in_box >= 0.45
    assert saliency.pointing_game > saliency.centre_point


def test_tells_the_object_from_three_others(audit):
    """In a grid of four images, Grad-CAM for a class lights up the cell of its image; needs no boxes."""
    audit.assert_saliency_localized(metric="grid_pointing_game")


def test_holds_under_attack(audit):
    """An L-infinity perturbation of 1/255 fools few."""
    audit.assert_robust(norm="linf", eps=1 / 255, min_accuracy=0.5)


def test_holds_under_a_small_l2_attack(audit):
    """Neither does a small L2 perturbation; the interval counts too."""
    attack = audit.attack(norm="l2", eps=0.1, attack="pgd", steps=10)
    assert attack.robust_accuracy >= 0.5
    assert attack.robust_accuracy.ci95[0] >= 0.4


def test_gives_way_to_a_visible_attack(audit):
    """An audit that cannot fail proves nothing: within 16/255 hardly anything holds."""
    attack = audit.attack(norm="linf", eps=16 / 255)
    assert attack.robust_accuracy <= 0.1


def test_is_not_worse_than_the_last_release(audit):
    """Beside the figures accepted last, in `__cnnaudit__/test_shapes.json`, sample by sample."""
    audit.assert_no_regression(audit.attack(norm="linf", eps=4 / 255, attack="pgd"), tolerance=0.01)
    audit.assert_no_regression(audit.saliency("grad_cam"), metrics=["pointing game", "energy in box"])
