"""Fitting the blend of networks and a forest, with held-out scores of its own training rows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imbsam.anomaly import label_forest
from imbsam.anomaly.blend import Blend
from imbsam.anomaly.ensemble import Ensemble, can_be_trained_together
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.scaling import ColumnScaling, fit_scaling
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.training import PLACES, WEIGHTS, Scaled, Subset, fitted
from imbsam.data.seeding import generator
from imbsam.optim import METHODS

RHOS = (1.5, 0.3)
"""Neighbourhood sizes of the networks, in turn for two networks each: which of them is better depends on the table."""

FEWEST = 6
"""Number of rows that are not labelled anomalies below which every network sees all of them."""

FIFTHS = 5
"""Number of parts, one of which a single network leaves out."""

TINY = 1e-30

HALVES, NETWORK, FOREST = range(200, 203)


@dataclass(frozen=True)
class Fitted:
    """Blend and its scores of the training rows.

    Args:
        blend: Blend in evaluation mode.
        scaling: Scaling of its rows.
        scores: Scores of the training rows, shape ``(N,)``, each by the parts that were not trained on the row, if any.
        honest: Mask of the rows that some network was not trained on, shape ``(N,)``.
    """

    blend: Blend
    scaling: ColumnScaling
    scores: Tensor
    honest: Tensor


def fit_blend(rows: Subset, settings: Settings, *, seed: int, leave_out: bool) -> Fitted:
    """Train all parts of a blend.

    Args:
        rows: Training rows, at least one of them a labelled anomaly.
        settings: The options.
        seed: Seed of everything random.
        leave_out: Hold out some labelled anomalies from each network, to choose a threshold on them.

    Raises:
        OptionError: If an option is unknown or out of range.
        NonFiniteError: If a loss or gradient became NaN or infinite.
    """
    options = settings.objective_options if settings.objective == "blend" else {}
    blend = create_objective("blend", rows.table.shape[1:], draw=generator(seed, WEIGHTS), **options)
    assert isinstance(blend, Blend)
    blend.to(settings.device, settings.dtype)
    scaling = fit_scaling(rows.blocks, settings.scaling or blend.scaling)
    scaled = Scaled(rows, scaling, settings)
    blend.look(scaled, generator(seed, PLACES))
    held = held_out(rows.kinds, len(blend.networks), leave_out=leave_out, seed=seed)
    with torch.no_grad():
        strange = torch.cat([blend.strange(block).cpu() for block in scaled.blocks()])
    _train_networks(blend, scaling, replace(rows, beside=strange), ~held, settings, seed)
    out_of_bag = label_forest.grow(blend.forest, scaled, int(generator(seed, FOREST).initial_seed()))
    blend.eval()
    with torch.no_grad():
        parts = torch.cat([blend.parts(block).double().cpu() for block in scaled.blocks()])
    parts[:, -2] = out_of_bag
    judged = torch.cat([held, torch.ones_like(held[:1]).expand(2, -1)]).T
    _standardise(blend, parts, judged & (rows.kinds != ANOMALY)[:, None])
    blend.weigh(int((rows.kinds == ANOMALY).sum()))
    z = (parts - blend.mean.double().cpu()) / blend.spread.double().cpu()
    honest = held.any(dim=0)
    asked = torch.where(honest, held, True).T
    networks = (z[:, :-2] * asked).sum(dim=1) / asked.sum(dim=1)
    return Fitted(blend, scaling, networks + z[:, -2:] @ blend.weights.double().cpu(), honest)


def _train_networks(
    blend: Blend, scaling: ColumnScaling, rows: Subset, own: Tensor, settings: Settings, seed: int
) -> None:
    rhos = [RHOS[number // 2 % len(RHOS)] if settings.rho is None else settings.rho for number in range(len(own))]
    seeds = [int(generator(seed, NETWORK, number).initial_seed()) for number in range(len(own))]
    if len(own) > 1 and can_be_trained_together(own, rows.kinds, settings):
        shares = [rho / max(*rhos, TINY) for rho in rhos]
        ensemble = Ensemble(list(blend.networks), own, shares).to(settings.device)  # type: ignore[arg-type]
        fitted(ensemble, scaling, rows, replace(settings, rho=max(rhos)), seed=seeds[0])
        ensemble.part()
        return
    own_length = settings.method in METHODS and METHODS[settings.method].own_length
    for network, kept, rho, seed_of_one in zip(blend.networks, own, rhos, seeds, strict=True):
        of_one = settings if own_length else replace(settings, rho=rho)
        fitted(network, scaling, rows.part(kept), of_one, seed=seed_of_one)  # type: ignore[arg-type]


def held_out(kinds: Tensor, networks: int, *, leave_out: bool, seed: int) -> Tensor:
    """Choose the rows that each network is not trained on, shape ``(networks, N)``.

    Each of two networks leaves out one half of the rows that are not labelled anomalies; with ``leave_out`` each also
    leaves out a part of the labelled anomalies. A single network leaves out a fifth of both, and only with
    ``leave_out``.
    """
    draw = generator(seed, HALVES)
    held = torch.zeros(networks, len(kinds), dtype=torch.bool)
    others, anomalies = (kinds != ANOMALY).nonzero().squeeze(1), (kinds == ANOMALY).nonzero().squeeze(1)
    if len(others) < FEWEST or (networks == 1 and not leave_out):
        return held
    pieces = 2 if networks > 1 else FIFTHS
    for number in range(networks):
        if number % pieces == 0:
            order = others[torch.randperm(len(others), generator=draw)]
        held[number, order[number % pieces :: pieces]] = True
    if leave_out:
        order = anomalies[torch.randperm(len(anomalies), generator=draw)]
        pieces = networks if networks > 1 else FIFTHS
        for number in range(networks):
            held[number, order[number::pieces]] = True
    return held


def _standardise(blend: Blend, parts: Tensor, usable: Tensor) -> None:
    """Store mean and standard deviation of each part's scores over usable rows, or over all if there are hardly any."""
    for number in range(parts.shape[1]):
        scores = parts[usable[:, number], number]
        scores = scores if len(scores) > 1 else parts[:, number]
        spread = float(scores.std(correction=0))
        blend.mean[number], blend.spread[number] = float(scores.mean()), spread if spread > 0 else 1.0
