"""DeepFool: step by step to the nearest boundary of the linearised model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import of, others, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread, steepest
from pytest_cnnaudit.attacks.search import check_steps
from pytest_cnnaudit.errors import AuditError

_BEYOND = 1e-4  # added to every step, in pixel units, as in the authors' code: steps that shrink would never arrive


def deepfool(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
    at_once: int | None = None,
) -> Tensor:
    """X ← clip(x + (1 + overshoot) · r), r the shortest way to where the linearised model leaves the class.

    Moosavi-Dezfooli, Fawzi & Frossard 2016, "DeepFool: a simple and accurate method to fool deep neural networks",
    algorithm 2 and equations 10 and 11: with f_k = z_k − z_y and w_k = ∇f_k, the boundary of class k is |f_k| / ‖w_k‖_q
    away (q the dual norm), and r leads straight to the nearest. A sample leaves when it is fooled, or when a step does
    not move it: then none will.

    A step costs one forward pass, and a backward pass for each class but the label. Samples that are found fooled need
    none of these: where there are enough of them, the others make another forward pass, to go backward alone.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N.
        norm: ``"l2"`` or ``"linf"``.
        steps: how often each sample is looked at, at most; first the image itself.
        overshoot: by which part each step goes further than the linear model says.
        classes: among how many of the likeliest classes, the label with them, the nearest boundary is sought.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: the first iterate that fools, and the image itself where none did.
    """
    check_norm(norm, ("l2", "linf"), "DeepFool")
    check_steps("deepfool", steps)
    if classes < 2:
        raise AuditError(f"deepfool was given classes={classes}; it must be at least 2, the label and another.")

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        return {
            "label": labels[here],
            "x": clean,
            "result": clean,
            "fooled": torch.zeros_like(here, dtype=torch.bool),
            "taken": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        x, label = state["x"], state["label"]
        root, logits = _forward(model, x)
        fooled = reached(logits.detach(), label, targeted=False)
        done = fooled | (state["taken"] + 1 == steps)
        going = (~done).nonzero()[:, 0]
        moved = x
        if len(going):
            rivals = min(classes, logits.shape[1]) - 1
            if len(going) * (1 + rivals) < len(x) * rivals:
                root, logits = _forward(model, x[going])
                way = _to_the_nearest(root, logits, label[going], rivals, norm)
            else:
                way = _to_the_nearest(root, logits, label, rivals, norm)[going]
            moved = x.index_copy(0, going, (x[going] + (1 + overshoot) * way).clamp(0, 1).to(x.dtype))
        return state | {
            "x": moved,
            "result": x.where(spread(fooled), state["result"]),
            "fooled": fooled,
            "taken": state["taken"] + 1,
        }, done | (moved == x).flatten(1).all(1)

    return flow(len(images), start, step, at_once=at_once)[0]


def _forward(model: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """The images as the root of a graph, and the logits N×K that grow from it."""
    root = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
    return root, model(root)


def _to_the_nearest(root: Tensor, logits: Tensor, labels: Tensor, rivals: int, norm: Norm) -> Tensor:
    """The shortest way, N×C×H×W, to the nearest of the linear boundaries with the `rivals` likeliest other classes."""
    gaps = of(logits, labels)[:, None] - others(logits, labels).topk(rivals, dim=1).values
    ways = [torch.autograd.grad(-gap.sum(), root, retain_graph=True)[0] for gap in gaps.unbind(1)]
    slopes = torch.stack([length(way, "l1" if norm == "linf" else "l2") for way in ways], 1)
    distances = gaps.detach() / slopes.clamp(min=1e-30)
    nearest = distances.argmin(1)
    rows = torch.arange(len(root), device=root.device)
    way = torch.stack(ways, 1)[rows, nearest]
    return spread(distances[rows, nearest] + _BEYOND) * steepest(way, norm)
