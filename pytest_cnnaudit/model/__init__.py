"""The model under test: images in [0, 1] in, logits out; borrowed, and given back as it was."""

from pytest_cnnaudit.model.audit_model import AuditModel
from pytest_cnnaudit.model.borrow import BorrowedModel, Precision

__all__ = ["AuditModel", "BorrowedModel", "Precision"]
