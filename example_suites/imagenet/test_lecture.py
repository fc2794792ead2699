"""First-layer filters of four networks: oriented edges, bars and colour blobs in all of them."""

import pytest


@pytest.fixture(scope="session")
def audit_samples():
    """Filters need no images."""


@pytest.mark.parametrize("audit_model", ["alexnet", "resnet18", "resnet101", "densenet121"], indirect=True)
def test_first_layer_filters(audit):
    audit.assert_filters_smooth(max_roughness=0.5)
