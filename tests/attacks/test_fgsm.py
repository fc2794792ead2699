import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks import fgsm
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost


@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(1e-4, 3),
    seed=st.integers(0, 99),
    stretch=st.floats(1, 10),
    targeted=st.booleans(),
)
def test_the_result_stays_in_the_ball_and_in_the_range(tiny_net, norm, eps, seed, stretch, targeted):
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(3, 3, 8, 8, generator=generator) * stretch - (stretch - 1) / 2).clamp(0, 1)
    labels = torch.randint(4, (3,), generator=generator)
    result = fgsm(AuditModel(tiny_net(seed)), images, labels, norm=norm, eps=eps, targeted=targeted)
    assert (length(result - images, norm) <= eps + 1e-6).all()
    assert 0 <= result.min() <= result.max() <= 1


def test_it_costs_one_forward_and_one_backward_pass_a_sample(tiny_net):
    with AuditModel(tiny_net()).borrow() as model:
        fgsm(model, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64), eps=0.1)
        assert model.cost == Cost(5, 5)


def test_an_unknown_norm_is_refused(tiny_net):
    with pytest.raises(AuditError, match="'l0'"):
        fgsm(AuditModel(tiny_net()), torch.rand(1, 3, 8, 8), torch.tensor([0]), norm="l0", eps=0.1)
