import torch
from torch import nn

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.model.passes import spend, spent
from pytest_cnnaudit.results import Cost


def model():
    return AuditModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_the_passes_of_the_model_borrowed_last_are_read_and_added_to():
    assert spent() == Cost()
    with model().borrow() as outer:
        outer(torch.rand(3, 1, 2, 2)).sum()
        with model().borrow() as inner:
            inner(torch.rand(5, 1, 2, 2))
            assert spent() == inner.cost == Cost(5, 0)
            spend(Cost(10, 20))
            assert inner.cost == Cost(15, 20)
        assert spent() == outer.cost == Cost(3, 0)
    assert spent() == Cost()


def test_where_no_model_is_borrowed_nothing_is_counted():
    spend(Cost(1, 1))
    assert spent() == Cost()
