"""Push from outside: attacks are functions ``(model, images, labels, *, norm, eps, ...) -> images``."""

from pytest_cnnaudit.attacks.fgsm import fgsm
from pytest_cnnaudit.attacks.pgd import pgd

__all__ = ["ATTACKS", "AUTO", "fgsm", "pgd"]

ATTACKS = {"fgsm": fgsm, "pgd": pgd}

AUTO = ("fgsm", "pgd")
"""The cascade behind ``attack="auto"``: cheapest first, each next one only on the samples still standing."""
