"""Draw results/speed.json: the price of a step against the tail's share of the batch, with the limit 1 + t.

Usage: python figure.py
"""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).parent / "results"
STYLES = {"published rule": ("#8a8a8a", "s"), "ImbSAM": ("#0b6e99", "o"), "ImbSAM, reuse": ("#d1603d", "D")}


def main() -> None:
    mpl.use("agg")
    cases = json.loads((HERE / "speed.json").read_text())["cases"]
    cases = [case for case in cases if STYLES.keys() <= case["steps"].keys()]
    workloads = list(dict.fromkeys(case["workload"] for case in cases))
    figure, axes = plt.subplots(
        1, len(workloads), figsize=(3.2 * len(workloads), 3.4), sharey=True, layout="constrained"
    )
    for axis, workload in zip(axes, workloads, strict=True):
        own = sorted((case for case in cases if case["workload"] == workload), key=lambda case: case["tail_rows"])
        shares = [100 * case["tail_rows"] / case["batch"] for case in own]
        for name, (colour, marker) in STYLES.items():
            middle = [case["steps"][name]["ratio"] for case in own]
            low, high = zip(*(case["steps"][name]["quartiles"] for case in own), strict=True)
            axis.plot(shares, middle, color=colour, marker=marker, markersize=4, label=name)
            axis.fill_between(shares, low, high, color=colour, alpha=0.2, linewidth=0)
        limit = [1 + share / 100 for share in shares]
        axis.plot(shares, limit, color="black", linestyle="--", linewidth=1, label="limit, 1 + t")
        axis.set_title(own[0]["title"], fontsize=10)
        axis.set_xlabel("tail rows of the batch, %")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("time of a step over a plain one")
    axes[0].set_ylim(bottom=0.9)
    axes[-1].legend(fontsize=8, loc="center")
    figure.savefig(HERE / "speed.png", dpi=150)
    print(HERE / "speed.png")


if __name__ == "__main__":
    main()
