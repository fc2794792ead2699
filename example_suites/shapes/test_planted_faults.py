"""Two faults, planted: the audits find them, and say so in these words."""

import pytest


@pytest.mark.parametrize("audit_model", ["noisy"], indirect=True)
def test_noisy_filters_are_found_out(audit):
    """Noise of one standard deviation on the first layer fails its smoothness."""
    message = r"^assert roughness 0\.\d\d \(95% CI .*, n 16\) <= 0\.40\n  layer conv1, 16×3×7×7"
    with pytest.raises(AssertionError, match=message):
        audit.assert_filters_smooth(max_roughness=0.4)


@pytest.mark.parametrize("audit_model", ["shortcut"], indirect=True)
@pytest.mark.parametrize("audit_samples", ["marked"], indirect=True)
def test_a_shortcut_is_found_out(audit):
    """A network that reads the class off a mark in the corner is right every time, for the wrong reason."""
    message = r"^assert pointing game 0\.\d+ \(95% CI .* of \d+\) >= 0\.90\n  method grad_cam"
    with pytest.raises(AssertionError, match=message):
        audit.assert_saliency_localized(method="grad_cam", metric="pointing_game", min_score=0.9)
    assert audit.saliency("grad_cam").energy_in_box < 0.3
