"""Figures of the study."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from frames import GROUP, MAIN_IMBALANCE, PLAIN, centred
from matplotlib import pyplot as plt
from paired import half_width, wide

DRAWN = {"balanced": "balanced accuracy", "few": "recall of the rare classes"}


def draw_gains(runs: pd.DataFrame, file: Path) -> None:
    """Rare recall and balanced accuracy of each method over SGD: a point a seed, a mark for mean and interval."""
    mpl.use("agg")
    keys = list(runs.groupby(GROUP, sort=False).groups)
    heights = [0.7 + 0.22 * runs[(runs[GROUP] == list(key)).all(axis=1)].method.nunique() for key in keys]
    figure, axes = plt.subplots(
        len(keys), 2, figsize=(9, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for row, key in zip(axes, keys, strict=True):
        part = runs[(runs[GROUP] == list(key)).all(axis=1)]
        for axis, (score, title) in zip(row, DRAWN.items(), strict=True):
            _draw_differences(axis, wide(part, f"test.{score}"))
            axis.set_title(f"{key[0]}, {key[2]}, imbalance {key[1]}", fontsize=10)
            axis.set_xlabel(f"{title} over SGD (points)")
        row[1].set_yticklabels([])
    figure.savefig(file, dpi=130)


def _draw_differences(axis: plt.Axes, scores: pd.DataFrame) -> None:
    names = [name for name in scores if name != PLAIN][::-1]
    for place, name in enumerate(names):
        gap = scores[name] - scores[PLAIN]
        colour = "#d55e00" if name.startswith("ImbSAM") else "#0072b2"
        axis.scatter(gap, np.full(len(gap), place), s=12, color=colour, alpha=0.45, linewidths=0)
        axis.errorbar(gap.mean(), place, xerr=half_width(gap), fmt="D", color=colour, capsize=3, ms=4)
    axis.axvline(0, color="#1b1f24", lw=0.8, ls=":")
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.grid(alpha=0.3, axis="x")


def draw_mechanism(runs: pd.DataFrame, file: Path) -> None:
    """The tail's sharpness against rare recall, both less the mean of the seed."""
    keys = list(runs.groupby(GROUP, sort=False).groups)
    height = -(-len(keys) // 2)
    figure, axes = plt.subplots(height, 2, figsize=(9.5, 3.6 * height), layout="constrained", squeeze=False)
    names = list(dict.fromkeys(runs.method))
    for axis, key in zip(axes.flat, keys, strict=False):
        part = runs[(runs[GROUP] == list(key)).all(axis=1)]
        sharpness, recall = (centred(part, column) for column in ("sharpness.tail", "test.few"))
        for place, name in enumerate(names):
            if name in recall:
                # More methods than colours: the second round of markers has others than the first.
                marker, colour = "osD^vPX<>*"[place % 10], plt.cm.tab10((place + 3 * (place // 10)) % 10)
                axis.scatter(sharpness[name], recall[name], label=name, marker=marker, s=24, alpha=0.7, color=colour)
        axis.axhline(0, color="#1b1f24", lw=0.8, ls=":")
        axis.axvline(0, color="#1b1f24", lw=0.8, ls=":")
        axis.set_title(f"{key[0]}, {key[2]}, imbalance {key[1]}", fontsize=10)
    for axis in axes.flat[len(keys) :]:
        axis.set_axis_off()
    figure.supxlabel("SAM sharpness of the tail, less the mean of the seed", fontsize=10)
    figure.supylabel("recall of the rare classes, less the mean of the seed (points)", fontsize=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(file, dpi=130)


def draw_imbalance(runs: pd.DataFrame, file: Path) -> None:
    """What SAM and ImbSAM have over SGD at each imbalance factor: mean and interval of the paired differences."""
    mpl.use("agg")
    runs = runs[runs.set == "cifar10"]
    losses = list(dict.fromkeys(runs.loc[runs.imbalance != MAIN_IMBALANCE, "loss"]))
    figure, axes = plt.subplots(
        2, len(losses), figsize=(3.4 * len(losses), 5.4), layout="constrained", squeeze=False, sharey="row"
    )
    for column, loss in zip(axes.T, losses, strict=True):
        part = runs[runs.loss == loss]
        factors = sorted(part.imbalance.unique())
        for axis, (score, title) in zip(column, DRAWN.items(), strict=True):
            for place, (name, colour) in enumerate({"SAM": "#0072b2", "ImbSAM": "#d55e00"}.items()):
                tables = [wide(part[part.imbalance == factor], f"test.{score}") for factor in factors]
                gaps = [table[name] - table[PLAIN] for table in tables]
                x = np.arange(len(factors)) + 0.12 * (2 * place - 1)
                halves = [half_width(gap) for gap in gaps]
                means = [gap.mean() for gap in gaps]
                axis.errorbar(x, means, yerr=halves, fmt="o-", color=colour, capsize=3, ms=4, lw=1, label=name)
            axis.axhline(0, color="#1b1f24", lw=0.8, ls=":")
            axis.set_xticks(range(len(factors)), [f"{factor:g}" for factor in factors])
            axis.set_title(f"{loss}: {title}", fontsize=9)
            axis.grid(alpha=0.3, axis="y")
    figure.supxlabel("imbalance factor of CIFAR-10-LT", fontsize=10)
    figure.supylabel("points over SGD", fontsize=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    figure.savefig(file, dpi=130)
