"""What is compared: for each method three configurations, as options of the command; and the ablations."""

from collections.abc import Mapping, Sequence

Configuration = Mapping[str, object]

COMMON: Configuration = {
    "model": "networks:resnet8",
    "epochs": 30,
    "batch_size": 64,
    "augment": "none",
    "tail": "rarest-classes=0.4",
    "class_prior": ["loss"],
    "sharp_from": 0.0,
    "sampler": "shuffle",
    "average": "none",
    "threads": 1,
    "track": "none",
}
"""Options of every run."""

LOSSES: dict[str, Configuration] = {
    "CE": {"loss": "cross-entropy"},
    "LA": {"loss": "logit-adjustment"},
    "LDAM-DRW": {"loss": "ldam", "reweight_from": 0.8},
}
"""Cross-entropy; logit adjustment with tau = 1; LDAM with deferred re-weighting in the last fifth of the epochs."""

RHO = (0.05, 0.1, 0.2)


def grid(name: str, values: Sequence[object], **fixed: object) -> list[Configuration]:
    """One configuration for each value."""
    return [{**fixed, name: value} for value in values]


METHODS: dict[str, list[Configuration]] = {
    "SGD": grid("weight_decay", (5e-4, 2e-3, 5e-3), method="sgd"),
    "SAM": grid("rho", RHO, method="sam"),
    "ImbSAM": grid("rho", RHO, method="imbsam"),
    "Focal-SAM": grid("rho", RHO, method="focal-sam", gamma=3.0),
    "SSE-SAM": [{"method": "sse-sam", "rho": rho, "head_rho": rho / 2} for rho in RHO],
    "CC-SAM": grid("rho", (1e-6, 1e-3, 1e-2), method="cc-sam"),
    "Friendly-SAM": grid("rho", RHO, method="friendly-sam"),
    "SAM+DRW": grid("rho", (0.1, 0.2, 0.5), method="sam-drw", drw=0.8),
    "ImbSAM, friendly": grid("rho", RHO, method="imbsam", ascent="friendly"),
    "ImbSAM, adaptive": grid("rho", (0.2, 0.5, 1.0), method="imbsam", ascent="adaptive"),
}
"""SAM+DRW re-weights the classes by itself, so that it is run on losses that do not."""

BEYOND: dict[str, list[Configuration]] = {
    "SGD, averaged": grid("weight_decay", (5e-4, 2e-3, 5e-3), method="sgd", beyond=("averaged", 0.2)),
    "ImbSAM, averaged": grid("rho", RHO, method="imbsam", beyond=("averaged", 0.2)),
    "ImbSAM, damped": [
        {"method": "imbsam", "rho": 0.2, "ascent": "gradient", "damping": damping} for damping in (0.03, 0.1, 0.3)
    ],
    "ImbSAM, tail by loss gap": grid("rho", RHO, method="imbsam", beyond=("gap", 3)),
    "ImbSAM, rho by rise": grid("rise", (0.01, 0.03, 0.1), method="imbsam", ascent="rise", rho=0.5),
    "SAM, rho by rise": grid("rise", (0.03, 0.1, 0.3), method="sam", ascent="rise", rho=1.0),
    "SAM+DRW, rho by rise": grid("rise", (0.03, 0.1, 0.3), method="sam-drw", drw=0.8, ascent="rise", rho=1.0),
    "SSE-SAM, rho by rise": grid("rise", (0.01, 0.03, 0.1), method="sse-sam", ascent="rise", rho=0.5, head_rho=0.5),
    "SGD+DRW": grid("weight_decay", (5e-4, 2e-3, 5e-3), method="sgd", reweight_from=0.8),
    "ImbSAM+DRW": grid("rho", RHO, method="imbsam", reweight_from=0.8),
    "ImbSAM+DRW, rho by rise": grid(
        "rise", (0.01, 0.03, 0.1), method="imbsam", reweight_from=0.8, ascent="rise", rho=0.5
    ),
    "ImbSAM, classifier late": grid("rho", RHO, method="imbsam", beyond=("classifier", 2 / 3)),
}
"""Beyond the papers (beyond.py; by rise is the rule of LE-SAM, Wang et al., ICML 2026).

Averaging and deferred re-weighting are done to SGD, too.
"""

LEFT = ("SGD, averaged", "ImbSAM, averaged", "ImbSAM, damped", "ImbSAM, tail by loss gap", "ImbSAM, classifier late")
"""What gained nothing on Fashion-MNIST-LT, and is run on CIFAR-10-LT only where it is asked for by name."""

CORE = ("SGD", "SAM", "ImbSAM")
"""Methods of the data sets that stand beside the main one."""

LATE = ("SAM+DRW", "SGD+DRW", "ImbSAM+DRW", "ImbSAM+DRW, rho by rise")
"""Methods that re-weight late, held to each other there."""

ABLATIONS: dict[str, Configuration] = {
    "SGD": {"method": "sgd"},
    "SGD, tail loss doubled": {"method": "sgd", "doubled": True},
    "SGD, classes re-weighted": {"method": "sgd", "loss": "class-balanced"},
    "SAM": {"method": "sam"},
    "SAM, half the epochs": {"method": "sam", "epochs": 15},
    "ImbSAM": {"method": "imbsam"},
    "tail weight 2": {"method": "imbsam", "tail_weight": 2.0},
    "rho 1e-6: the passes alone": {"method": "imbsam", "rho": 1e-6},
    "rho 0.02": {"method": "imbsam", "rho": 0.02},
    "rho 0.05": {"method": "imbsam", "rho": 0.05},
    "rho 0.2": {"method": "imbsam", "rho": 0.2},
    "rho 0.5": {"method": "imbsam", "rho": 0.5},
    "tail: fewer than 20": {"method": "imbsam", "tail": "fewer-than=20"},
    "tail: rarest 10 % of the samples": {"method": "imbsam", "tail": "rarest-samples=0.1"},
    "tail: rarest 70 % of the classes": {"method": "imbsam", "tail": "rarest-classes=0.7"},
    "tail: random classes": {"method": "imbsam", "tail": "random"},
    "random direction": {"method": "imbsam", "ascent": "random"},
    "BatchNorm by whole batches": {"method": "imbsam", "batch_statistics": "batch"},
    "random direction, whole batches": {"method": "imbsam", "ascent": "random", "batch_statistics": "batch"},
    "SGD, GroupNorm": {"method": "sgd", "model": "networks:resnet8_group"},
    "GroupNorm": {"method": "imbsam", "model": "networks:resnet8_group"},
    "perturbed in the last third": {"method": "imbsam", "sharp_from": 2 / 3},
    "reused direction": {"method": "imbsam", "ascent": "reuse"},
    "damping 0.3": {"method": "imbsam", "ascent": "gradient", "damping": 0.3},
    "rho by rise": {"method": "imbsam", "ascent": "rise", "rho": 0.5},
    "rho by rise, annealed": {"method": "imbsam", "ascent": "rise", "rho": 0.5, "anneal_from": 0.8},
    "rho by rise, whole batches": {"method": "imbsam", "ascent": "rise", "rho": 0.5, "batch_statistics": "batch"},
    "rho by rise, random direction": {"method": "imbsam", "rho": 0.5, "beyond": ("aside", 0.01)},
    "gathered tails": {"method": "imbsam", "sampler": "gathered"},
    "SGD, batch 32": {"method": "sgd", "batch_size": 32},
    "batch 32": {"method": "imbsam", "batch_size": 32},
    "SGD, batch 256": {"method": "sgd", "batch_size": 256},
    "batch 256": {"method": "imbsam", "batch_size": 256},
    "SGD, 10 epochs": {"method": "sgd", "epochs": 10},
    "10 epochs": {"method": "imbsam", "epochs": 10},
    "SGD, 60 epochs": {"method": "sgd", "epochs": 60},
    "60 epochs": {"method": "imbsam", "epochs": 60},
    "SGD, images cropped and flipped": {"method": "sgd", "augment": "cifar"},
    "images cropped and flipped": {"method": "imbsam", "augment": "cifar"},
}
"""One thing changed at a time, rho 0.1 where nothing is said; ``SGD, ...`` is what the line after it is held to."""
ABLATION_RHO = 0.1
