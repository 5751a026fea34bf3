"""Data sets: read from files, split, made long-tailed, and divided into batches."""

from imbsam.data.batches import Epoch, batches
from imbsam.data.dataset import Dataset, Samples, SomeSamples, TensorSamples
from imbsam.data.load import load, load_like, spec_of
from imbsam.data.longtail import long_tail, long_tail_counts
from imbsam.data.shards import Shard
from imbsam.data.sources.dialect import AS_FOUND, Dialect
from imbsam.data.transforms import evaluation_transform, training_transform

__all__ = [
    "AS_FOUND",
    "Dataset",
    "Dialect",
    "Epoch",
    "Samples",
    "Shard",
    "SomeSamples",
    "TensorSamples",
    "batches",
    "evaluation_transform",
    "load",
    "load_like",
    "long_tail",
    "long_tail_counts",
    "spec_of",
    "training_transform",
]
