"""Square: random search with squares of colour, which needs no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import ascent, margin, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread
from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.errors import AuditError

_PHASES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: after each the area is halved
_TINY = 1e-12  # keeps zero divided by zero a zero


def square(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float,
    queries: int = 5000,
    p: float = 0.8,
    hope: float | None = None,
    targeted: bool = False,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """Change one random square at a time, ever smaller ones, and keep what brings the sample closer to being fooled.

    Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random search",
    algorithm 1 with the proposals of algorithms 2 (L∞) and 3 (L2). The schedule of the squares' area, given for 10,000
    queries, is stretched to `queries`. A query is one forward pass. Closeness is the margin or, where `targeted`, the
    cross-entropy (section 3.1); a sample leaves as soon as it is fooled.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K; no gradient is asked of it.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"`` or ``"l2"``.
        eps: radius of the ball, in pixel units.
        queries: forward passes a sample may take.
        p: share of the image's area that the first squares cover.
        hope: give a sample up where its margin, if every doubling of the queries from here on gained `hope` times what
            the last one did, would still not be crossed by the end; asked after 250, 500, 1,000, … queries. None never
            gives up, as in the paper.
        targeted: move towards `labels` instead of away.
        seeds: N integers, the random choices of each sample; 0, 1, 2, … where None.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm, ("linf", "l2"), "Square")
    if queries < 1 or not 0 < p <= 1:
        raise AuditError(f"square was given queries={queries} and p={p}; it needs queries ≥ 1 and p in (0, 1].")
    seeds = torch.arange(len(images)) if seeds is None else seeds
    shape = images.shape[1:]
    sides = _sides(p, int(shape[1]), int(shape[2]), norm)
    side_of, after = (torch.tensor(each, device=images.device) for each in (sides, _PHASES))
    bumps = _bumps(sides).to(images) if norm == "l2" else None

    def _outlook(gain: Tensor, taken: Tensor) -> Tensor:
        """What may still be gained, at `hope` times the last doubling's gain in each to come; at first, anything."""
        return (hope or 1) * gain * torch.log2(queries / taken.to(gain.dtype))

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean, seed = images[here], seeds.to(images.device)[here]
        begin = _stripes if bumps is None else _tiles
        return {
            "clean": clean,
            "label": labels[here],
            "seed": seed,
            "x": begin(clean, eps, seed),
            "result": clean,
            "closeness": torch.full_like(clean[:, 0, 0, 0], -torch.inf),
            "before": torch.full_like(clean[:, 0, 0, 0], -torch.inf),
            "taken": torch.zeros_like(here),
            "fooled": torch.zeros_like(here, dtype=torch.bool),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x = state["clean"], state["label"], state["x"]
        with torch.no_grad():
            logits = model(x)
        fooled = reached(logits, label, targeted=targeted)
        closeness = ascent(logits, label, targeted=True) if targeted else margin(logits, label)
        better = fooled | (closeness > state["closeness"])
        best = x.where(spread(better), state["result"])
        taken = state["taken"] + 1
        phase = torch.bucketize((taken - 1) * 10_000 // queries, after)
        if bumps is None:
            x = _recolour(clean, best, eps, side_of[phase], draw(state["seed"], taken, 2 + clean.shape[1]))
        else:
            x = _move_mass(
                clean, best, eps, side_of[phase], bumps[phase], draw(state["seed"], taken, 5 + clean.shape[1])
            )
        closeness = closeness.where(better, state["closeness"])
        asked = _doubled(taken)
        hopeless = asked & (hope is not None) & (closeness + _outlook(closeness - state["before"], taken) < 0)
        return state | {
            "x": x,
            "result": best,
            "closeness": closeness,
            "before": closeness.where(asked, state["before"]),
            "taken": taken,
            "fooled": fooled,
        }, fooled | hopeless | (taken == queries)

    return flow(len(images), start, step, at_once=at_once)[0]


def _doubled(taken: Tensor) -> Tensor:
    """Whether that many queries are 125, or twice that, and so on."""
    times = torch.log2(taken.float() / 125)
    return (times >= 0) & (times == times.round())


def _sides(p: float, height: int, width: int, norm: Norm) -> list[int]:
    """The side of the squares in each phase, in pixels; in L2 it is odd, and 3 or more where the image allows it."""
    shorter = min(height, width)
    sides = [round((p / 2**phase * height * width) ** 0.5) for phase in range(len(_PHASES) + 1)]
    if norm == "linf":
        return [min(max(side, 1), shorter) for side in sides]
    return [min(max(side, 3) // 2 * 2 + 1, shorter - (shorter + 1) % 2) for side in sides]


def _stripes(clean: Tensor, eps: float, seeds: Tensor) -> Tensor:
    """Vertical stripes of ±eps, one pixel wide, in each channel (section 3.2)."""
    n, channels, _, width = clean.shape
    signs = _signs(draw(seeds, torch.zeros_like(seeds), channels * width)).view(n, channels, 1, width)
    return (clean + eps * signs.to(clean)).clamp(0, 1)


def _recolour(clean: Tensor, best: Tensor, eps: float, side: Tensor, drawn: Tensor) -> Tensor:
    """A square in which each channel differs by +eps or by −eps from the image (algorithm 2). `drawn` is N×(2 + C)."""
    inside = _square(clean, side, drawn[:, :2])[2]
    change = eps * _signs(drawn[:, 2:])[:, :, None, None].to(clean)
    x = (clean + change).clamp(0, 1).where(inside, best)
    # A square that has these colours already would waste a query.
    other = (clean - change).clamp(0, 1).where(inside, best)
    return other.where(spread((x == best).flatten(1).all(1)), x)


def _tiles(clean: Tensor, eps: float, seeds: Tensor) -> Tensor:
    """A grid of some 5×5 bumps with random signs and directions, ‖δ‖₂ = eps (section 3.3)."""
    n, channels, height, width = clean.shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    drawn = draw(seeds, torch.zeros_like(seeds), (channels + 1) * rows * columns).view(n, channels + 1, rows, columns)
    drawn = drawn.repeat_interleave(side, 2).repeat_interleave(side, 3)
    upright, lying = (bump.repeat(rows, columns) for bump in _bumps([side])[0].to(clean))
    grid = _signs(drawn[:, 1:]).to(clean) * torch.where(drawn[:, :1] < 0.5, upright, lying)
    above, left = (height - rows * side) // 2, (width - columns * side) // 2
    grid = pad(grid, (left, width - columns * side - left, above, height - rows * side - above))
    return _at_distance(clean, grid, eps)


def _move_mass(clean: Tensor, best: Tensor, eps: float, side: Tensor, bumps: Tensor, drawn: Tensor) -> Tensor:
    """A second square gives its share of ‖δ‖₂² to a bump that is added in the first one (algorithm 3).

    Args:
        bumps: N×2×S×S, see `_bumps`.
        drawn: N×(5 + C).
    """
    delta = best - clean
    row, column, to = _square(clean, side, drawn[:, :2])
    source = _square(clean, side, drawn[:, 2:4])[2]
    n = torch.arange(len(clean), device=clean.device)[:, None, None]
    last = bumps.shape[2] - 1
    upright = (drawn[:, 4] < 0.5).long()[:, None, None]
    bump = bumps[n, upright, row.clamp(0, last)[:, :, None], column.clamp(0, last)[:, None, :]][:, None]
    added = _signs(drawn[:, 5:])[:, :, None, None].to(clean) * bump * to + _unit(delta * to)
    unused = (eps**2 - length(delta, "l2") ** 2).clamp(min=0) / clean.shape[1]
    mass = spread(unused) + (delta * (to | source)).square().sum((2, 3), keepdim=True)
    moved = (_unit(added) * mass.sqrt()).where(to, delta.where(~source, 0))
    return _at_distance(clean, moved, eps)


def _square(clean: Tensor, side: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A random square within each image: where its pixels' rows (N×H) and columns (N×W) are in it, and N×1×H×W bool."""

    def along(size: int, chance: Tensor) -> Tensor:
        return torch.arange(size, device=side.device) - (chance * (size - side + 1)).long()[:, None]

    row, column = along(clean.shape[2], drawn[:, 0]), along(clean.shape[3], drawn[:, 1])
    within = [(each >= 0) & (each < side[:, None]) for each in (row, column)]
    return row, column, (within[0][:, :, None] & within[1][:, None, :])[:, None]


def _bumps(sides: Sequence[int]) -> Tensor:
    """For each side s, the perturbation of section 3.3, ‖·‖₂ = 1, lying and upright: S×2×s×s, zero beyond its own side.

    Its two halves have opposite signs. In each, values fall off from the centre as Σ_{k > d} 1/k², d being the distance
    to the centre in steps of a chess king.
    """

    def half(height: int, width: int) -> Tensor:
        rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
        distance = torch.maximum(rows.abs()[:, None], columns.abs()[None])
        terms = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64).pow(-2)
        values = terms.flip(0).cumsum(0).flip(0)[distance]
        return values / values.square().sum().sqrt().clamp(min=_TINY)

    largest = max(sides)
    both = []
    for side in sides:
        bump = torch.cat([half(side // 2, side), -half(side - side // 2, side)])
        bump = pad(bump / bump.norm(), (0, largest - side, 0, largest - side))
        both.append(torch.stack([bump, bump.T]))
    return torch.stack(both)


def _signs(drawn: Tensor) -> Tensor:
    return torch.where(drawn < 0.5, 1.0, -1.0)


def _unit(values: Tensor) -> Tensor:
    """Each channel of each sample divided by its ‖·‖₂."""
    return values / values.square().sum((2, 3), keepdim=True).sqrt().clamp(min=_TINY)


def _at_distance(clean: Tensor, difference: Tensor, eps: float) -> Tensor:
    return (clean + difference * spread(eps / length(difference, "l2").clamp(min=_TINY))).clamp(0, 1)
