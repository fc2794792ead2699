"""Look inside: lenses are functions on tensors."""

from pytest_cnnaudit.lenses.cams import grad_cam
from pytest_cnnaudit.lenses.gradient import gradient

__all__ = ["grad_cam", "gradient"]
