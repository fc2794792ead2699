"""Carlini & Wagner's L2 attack: the squared length plus c times what is missing, and a search for c."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pytest_cnnaudit.attacks.adam import adam
from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import input_gradient, margin, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread
from pytest_cnnaudit.attacks.search import check_steps, keep_smallest, nothing_found
from pytest_cnnaudit.errors import AuditError

_UNBOUNDED = 1e10  # the upper end of c before anything has fooled
_GAIN = 0.9999  # a tenth of a round must bring the loss below this part of what it was, or the round ends


def carlini_wagner(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 200,
    rounds: int = 9,
    step_size: float = 0.01,
    init_c: float = 1e-3,
    confidence: float = 0.0,
    targeted: bool = False,
    at_once: int | None = None,
) -> Tensor:
    """Minimise ‖δ‖² + c · max(κ − m, 0) by Adam over w, x + δ = (tanh w + 1) / 2, for each of `rounds` values of c.

    Carlini & Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section V.D and the authors' code. m
    is the margin. c is smaller in the next round where one fooled, halfway to the largest that did not; where none has
    yet, it is ten times larger. A round ends early where the best loss gains less than 0.01 % in a tenth of its steps
    (the authors compare the last losses, and those of the whole batch; here each sample goes on by itself). The
    smallest iterate that fools by more than κ is the answer. A sample whose image does so as it is leaves at once.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"l2"``.
        steps: passes of the model for each sample in a round, at most (the paper has 10 000).
        rounds: how many values of c are tried.
        step_size: of Adam, in units of w.
        init_c: c in the first round.
        confidence: κ, by how much the wanted logit must be ahead.
        targeted: move towards `labels` instead of away.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: the nearest found that fools, and the image itself where none was found.
    """
    check_norm(norm, ("l2",), "Carlini & Wagner")
    check_steps("carlini_wagner", steps)
    if rounds < 1 or confidence < 0:
        raise AuditError(
            f"carlini_wagner was given rounds={rounds} and confidence={confidence}; "
            "they must be at least 1 and at least 0."
        )
    check_every = max(steps // 10, 1)

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        nothing, value = torch.zeros_like(clean), torch.zeros_like(clean[:, 0, 0, 0])
        return nothing_found(clean) | {
            "clean": clean,
            "label": labels[here],
            "shift": nothing,
            "mean": nothing,
            "square": nothing,
            "c": value + init_c,
            "low": value,
            "high": value + _UNBOUNDED,
            "best": value + torch.inf,
            "best_at_check": value + torch.inf,
            "hit": value.bool(),
            "taken": torch.zeros_like(here),
            "round": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, c, taken = (state[name] for name in ("clean", "label", "c", "taken"))
        # Strictly inside of the box, where tanh can be inverted; but the first pass is for the image itself.
        bend = (((2 * clean - 1) * (1 - 1e-6)).atanh() + state["shift"]).tanh()
        first = (taken == 0) & (state["round"] == 0)
        x = clean.where(spread(first), (bend + 1) / 2)
        last = taken + 1 == steps
        size = length(x - clean, norm)

        def ahead(logits: Tensor) -> Tensor:
            return margin(_handicapped(logits, label, confidence, targeted=targeted), label, targeted=targeted)

        logits, gap, gradient = input_gradient(model, x, ahead, enough=lambda logits: last | (ahead(logits) > 0))
        fooled = reached(_handicapped(logits, label, confidence, targeted=targeted), label, targeted=targeted)
        found = keep_smallest(state, x, size, fooled)

        loss = size.square() + c * (-gap).clamp(min=0)
        best = torch.minimum(loss, state["best"])
        check = taken % check_every == 0
        over = last | (check & (best > _GAIN * state["best_at_check"]))
        slope = (2 * (x - clean) - spread(c) * gradient.where(spread(gap <= 0), 0)) * (1 - bend.square()) / 2
        move, mean, square = adam(slope, state["mean"], state["square"], taken + 1)

        hit = state["hit"] | fooled
        high = torch.minimum(c, state["high"]).where(over & hit, state["high"])
        low = torch.maximum(c, state["low"]).where(over & ~hit, state["low"])
        sought = torch.where(high < _UNBOUNDED, (low + high) / 2, 10 * c)
        going = ~over
        return state | found | {
            "shift": (state["shift"] - step_size * move).where(spread(going), 0),
            "mean": mean.where(spread(going), 0),
            "square": square.where(spread(going), 0),
            "c": sought.where(over, c),
            "low": low,
            "high": high,
            "best": best.where(going, torch.inf),
            "best_at_check": best.where(check, state["best_at_check"]).where(going, torch.inf),
            "hit": hit & going,
            "taken": (taken + 1).where(going, 0),
            "round": state["round"] + over,
        }, (over & (state["round"] + 1 == rounds)) | (first & fooled)

    return flow(len(images), start, step, at_once=at_once)[0]


def _handicapped(logits: Tensor, labels: Tensor, confidence: float, *, targeted: bool) -> Tensor:
    """The logits with κ taken from the wanted class, or given to the unwanted one: the attack must make up for it."""
    return logits + one_hot(labels, logits.shape[1]) * (-confidence if targeted else confidence)
