"""Push from outside: attacks are functions ``(model, images, labels, *, norm, eps, ...) -> images``."""

from pytest_cnnaudit.attacks.fgsm import fgsm
from pytest_cnnaudit.attacks.pgd import pgd

__all__ = ["fgsm", "pgd"]
