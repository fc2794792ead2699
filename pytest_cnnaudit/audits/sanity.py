"""Does the map follow from what the network has learnt?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import classify, fitting
from pytest_cnnaudit.audits.explainer import Explainer, Method, Target, explained, explainer
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.randomise import Cascade, Order, computation_order, cut_points
from pytest_cnnaudit.lenses.similarity import rank_correlation, ssim
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Chart, Exhibit, Line, Measurement, Metric, Picture, Row, Table, TableRow, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import mean, share

_SHOWN = 8


class Stage(NamedTuple):
    """How far the re-initialisation has come.

    Attributes:
        layers: how many layers are re-initialised, from the output down.
        layer: the last of them.
        rank_correlation: with the map of the trained network, mean over the samples whose maps are not constant.
        ssim: the same.
    """

    layers: int
    layer: str
    rank_correlation: Metric
    ssim: Metric


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SanityMeasurement(Measurement):
    """How alike the maps stay while the network forgets.

    `per_sample`: rank_correlation and ssim, samples×stages; NaN where a map is constant.

    Attributes:
        similarity: rank correlation of the trained network's map and that of the wholly re-initialised one.
        similarity_of_head: the same where the last layer alone is re-initialised.
        ssim: structural similarity where everything is re-initialised.
        compared: the share of samples for which neither of the two maps behind `similarity` is constant.
        stages: all stages.
    """

    similarity: Metric
    similarity_of_head: Metric
    ssim: Metric
    compared: Metric
    stages: tuple[Stage, ...]


def measure_sanity(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    method: Method = "grad_cam",
    target: Target = None,
    layer: str | None = None,
    stages: int = 8,
    options: Mapping[str, Any],
) -> SanityMeasurement:
    """Cascading parameter randomisation (Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1).

    Layers of a copy are re-initialised from the output down, in the order of the computation, and each time the samples
    are explained anew for the same classes. A map that stays as it was has not come from what was learnt. The first
    stage is the last layer alone, the last stage everything; the others lie evenly between them.

    Costs a sample a forward pass and an explanation, one more explanation for each stage, and one forward pass in all.

    Args:
        method: as for `measure_saliency`.
        target: the class that is explained throughout: the label where None, what the trained network says where
            ``"predicted"``, or one class for all.
        layer: for the methods that look at one; the last layer with a map where None.
        stages: at most so many.
        options: further keyword arguments of the method.

    Raises:
        AuditError: there is no such method, layer or target, no layer with parameters runs, or the module cannot be
            copied.
    """
    if stages < 1:
        raise AuditError(f"stages={stages} is no number of stages; give 1 or more.")
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        image = samples[0].image.to(engine.device)
        explains = explainer(model, borrowed, engine, image, method=method, layer=layer, options=options)
        order = _order(model, borrowed, image)
        cascade = Cascade(model.module, order.layers, engine.draw_seed())
        random = AuditModel(
            cascade.module,
            mean=model.mean,
            std=model.std,
            class_names=model.class_names,
            name=f"{model.name}, re-initialised",
            input_size=model.input_size,
            output=model.output,
        )
        cuts = cut_points(len(cascade), stages)
        names = [order.layers[-count][0] or type(model.module).__name__ for count in cuts]
        with random.borrow(engine.device, seed=engine.draw_seed()) as forgetful:
            again = explainer(random, forgetful, engine, image, method=method, layer=explains.layer, options=options)
            step = _Step(model, borrowed, explains, again, cascade, cuts, names, target)
            found = engine.measure(samples, step, title=f"sanity {explains.described['method']}")
            cost = borrowed.cost + forgetful.cost
    named = ", ".join(f"{key} {value}" for key, value in explains.described.items())
    notes = _notes(found, order)
    story = (f"{named}; target {'label' if target is None else target}", *notes)
    measured = tuple(
        Stage(
            count,
            name,
            _mean(found["rank_correlation"][:, place], f"rank correlation down to {name}", story),
            _mean(found["ssim"][:, place], f"SSIM down to {name}", story),
        )
        for place, (count, name) in enumerate(zip(cuts, names, strict=True))
    )
    correlations = found["rank_correlation"]
    return SanityMeasurement(
        kind="saliency_sanity",
        title="Does the map follow from what was learnt?",
        settings={
            **explains.described,
            "target": "label" if target is None else str(target),
            "layers": str(len(order.layers)),
            "stages": str(len(cuts)),
        },
        ids=samples[found.positions].ids,
        per_sample={**found.columns, "similarity": correlations[:, -1], "similarity_of_head": correlations[:, 0]},
        cost=cost,
        notes=notes,
        exhibits=(_chart(measured, explains.described["method"]), _table(measured, len(found)), _rows(found, names)),
        similarity=_mean(
            correlations[:, -1],
            "similarity",
            story,
            "Rank correlation of the map with that of the same network with all its layers re-initialised.",
            "similarity",
        ),
        similarity_of_head=_mean(
            correlations[:, 0],
            "similarity of head" if cuts[0] == 1 else "similarity at the first stage",
            story,
            "The same with the last layer alone re-initialised.",
            "similarity_of_head",
        ),
        ssim=_mean(found["ssim"][:, -1], "SSIM", story, "Structural similarity of the same two maps, each in [0, 1]."),
        compared=share(
            np.isfinite(correlations[:, -1]),
            name="compared maps",
            story=(*story, "a constant map is like no other, so that it proves nothing"),
            help="Share of samples for which neither of the two maps is constant.",
        ),
        stages=measured,
    )


def _order(model: AuditModel, borrowed: BorrowedModel, image: Tensor) -> Order:
    with fitting(model, image[None]), torch.no_grad():
        order = computation_order(lambda: borrowed(image[None]), model.module)
    if not order.layers:
        raise AuditError(
            f"No layer of the model {model.name!r} that has parameters runs, so there is nothing to re-initialise; a "
            "compiled or traced model runs without its modules: hand over the model itself."
        )
    return order


@dataclass(frozen=True, slots=True)
class _Step:
    """Explains one batch at every stage."""

    model: AuditModel
    borrowed: BorrowedModel
    explains: Explainer
    again: Explainer
    cascade: Cascade
    cuts: Sequence[int]
    names: Sequence[str]
    target: Target

    def __call__(self, batch: Batch) -> Part:
        targets = explained(self.target, batch, classify(self.model, self.borrowed, batch))
        trained = self.explains.maps(batch, targets)
        maps = [self._forgotten(batch, targets, place) for place in range(len(self.cuts))]
        correlations = rank_correlation(trained.cpu().numpy(), torch.stack(maps).cpu().numpy())
        columns = {
            "rank_correlation": correlations.T,
            "ssim": np.stack([ssim(trained, each).numpy() for each in maps], axis=1),
        }

        def draw(i: int) -> Row:
            return self._row(batch, columns, [trained, *maps], targets, i)

        last = np.nan_to_num(correlations[-1], nan=-2.0)  # those that cannot be compared come last
        most = Kept.lowest(_SHOWN, np.ones(len(batch), bool), -last, batch.positions, draw)
        flat = (trained.flatten(1).amax(1) == trained.flatten(1).amin(1)).cpu().numpy()
        return Part(batch.positions, {**columns, "flat": flat}, {"most": most})

    def _forgotten(self, batch: Batch, targets: Tensor, place: int) -> Tensor:
        """The maps of the copy, at one stage."""
        self.cascade.to(self.cuts[place])
        try:
            return self.again.maps(batch, targets)
        except AuditError as error:
            raise AuditError(
                f"The copy of {self.model.name!r}, re-initialised down to {self.names[place]!r}, cannot be explained: "
                f"{error}"
            ) from None

    def _row(
        self, batch: Batch, columns: Mapping[str, NDArray[Any]], maps: Sequence[Tensor], targets: Tensor, i: int
    ) -> Row:
        sample, name = batch.samples[i], self.model.class_name(int(targets[i]))
        correlations = [*map(float, columns["rank_correlation"][i])]
        captions = ["trained", *("constant" if np.isnan(each) else figure(each) for each in correlations)]
        alts = ["the trained network", *(f"the network re-initialised down to {each}" for each in self.names)]
        shown = [
            Picture(heated, caption, f"map of {name} in {sample.id} by {alt}", pictures.form(heated))
            for heated, caption, alt in zip((pictures.heat(each[i]) for each in maps), captions, alts, strict=True)
        ]
        image = Picture(pictures.image(batch.images[i]), f"looking for {name}", sample.id, "numbers")
        return Row(sample.id, (image, *shown), figures={"similarity": captions[-1]})


def _mean(values: NDArray[np.floating], name: str, story: tuple[str, ...], help: str = "", column: str = "") -> Metric:
    return mean(
        values[np.isfinite(values)],
        name=name,
        higher_is_better=False,
        bounds=(-1, 1),
        story=story,
        help=help,
        column=column,
    )


def _notes(found: Part, order: Order) -> tuple[str, ...]:
    notes = []
    flat, constant = int(found["flat"].sum()), int((np.isnan(found["rank_correlation"][:, -1]) & ~found["flat"]).sum())
    if flat:
        notes.append(f"{flat} maps of the trained network are constant, and are not compared.")
    if constant:
        notes.append(f"{constant} maps of the wholly re-initialised network are constant, and are not compared.")
    if order.idle:
        more = f" and {len(order.idle) - 8} more" if len(order.idle) > 8 else ""
        notes.append(f"Never ran, and were left as they are: {', '.join(order.idle[:8])}{more}.")
    notes.append("One draw of the weights; its luck is not in the intervals, which are over the samples.")
    return tuple(notes)


def _chart(stages: Sequence[Stage], method: str) -> Chart:
    x = [0, *(stage.layers for stage in stages)]
    ends = [stage.rank_correlation.ci95 or (stage.rank_correlation,) * 2 for stage in stages]
    return Chart(
        title="Similarity to the trained network's map",
        text="How alike the maps stay as layers are re-initialised, from the output down to the input. A line that "
        "stays up belongs to a map that does not depend on what was learnt.",
        x="layers re-initialised",
        y="similarity",
        series=(
            Line(
                f"{method}, rank correlation",
                x,
                [1.0, *(float(stage.rank_correlation) for stage in stages)],
                [1.0, *(float(low) for low, _ in ends)],
                [1.0, *(float(high) for _, high in ends)],
            ),
            Line(f"{method}, SSIM", x, [1.0, *(float(stage.ssim) for stage in stages)]),
        ),
        y_range=(0, 1),
    )


def _table(stages: Sequence[Stage], n: int) -> Table:
    return Table(
        title="Stages",
        text="The layer that the re-initialisation has come down to, and how alike the maps still are.",
        columns=("down to", "layers", "rank correlation", "SSIM", "constant maps"),
        rows=tuple(
            TableRow(
                (
                    stage.layer,
                    str(stage.layers),
                    figure(stage.rank_correlation),
                    figure(stage.ssim),
                    str(n - stage.rank_correlation.n),
                )
            )
            for stage in stages
        ),
    )


def _rows(found: Part, names: Sequence[str]) -> Exhibit:
    return Exhibit(
        "Most alike in the end",
        "The map of the trained network, and after each stage, with its rank correlation; each map on its own scale. "
        "Samples whose map has changed the least come first.",
        found.kept["most"].shown,
        columns=("image", "trained", *names),
    )
