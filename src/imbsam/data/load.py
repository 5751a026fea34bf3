"""Loading of a data set: read a source, check, hold out, make long-tailed, decode or encode."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from imbsam.data.dataset import Dataset, Samples
from imbsam.data.decoding import Fit
from imbsam.data.images import ImageParts, further_images, image_parts
from imbsam.data.longtail import Profile, Rare, Subset, long_tail
from imbsam.data.seeding import generator
from imbsam.data.sources import is_bundled, read
from imbsam.data.sources.dialect import AS_FOUND, Dialect
from imbsam.data.sources.raw import PARTS, UNLABELLED, Part, PartName, Raw, Request, listed, placed
from imbsam.data.splits import SMALLEST_SPLIT_CLASS, stratified_split
from imbsam.data.unopened import unopened_parts
from imbsam.errors import DataError, DataWarning, OptionError
from imbsam.inputs import ImageSpec, InputSpec, TableSpec
from imbsam.storage.texts import readable

if TYPE_CHECKING:
    from imbsam.data.columns import TableParts

TEST, VALIDATION, TAIL = range(3)
"""Random streams: each step has its own, so that no option changes the draws of another step."""


def load(
    source: str,
    *,
    target: str | None = None,
    ignore: Sequence[str] = (),
    texts: Sequence[str] = (),
    dialect: Dialect = AS_FOUND,
    imbalance: float | None = None,
    profile: Profile = "exponential",
    rare: Rare = "last",
    subset: Subset = "drawn",
    validation_fraction: float = 0.1,
    test_fraction: float = 0.3,
    validation_is_test: bool = False,
    image_size: int | None = None,
    fit: Fit | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    open_all: bool = True,
) -> Dataset:
    """Load a data set from a source.

    If the source has neither a test nor a validation part, a test part is held out; if it has no validation part, one
    is held out next. Both keep the proportions of the classes. The long tail is made last, from the training part
    alone: the held-out parts are not changed. (The counts that papers report need ``validation_fraction=0``.)

    Args:
        source: ``"digits"``, or the path of a folder or file; see :data:`imbsam.data.sources.UNDERSTOOD`.
        target: Column that holds the class, for tables and Parquet.
        ignore: Columns to leave out, for tables.
        texts: Columns to read as text even if they look like numbers, for tables.
        dialect: Format of a text table; what is left open is detected. A cell is missing if it is empty or one of the
            words that pandas takes for missing; among numbers also others, such as ``"?"`` or ``"unknown"``, and then a
            note says so.
        imbalance: Make the training part long-tailed with this ratio of the largest to the smallest class, at least 1.
        profile: Shape of the tail.
        rare: Choice of the classes that become rare: the last ones, or drawn at random.
        subset: Choice of the samples of a class that stay in the long tail: drawn at random, or the first ones.
        validation_fraction: Share of the training part to hold out for validation, in [0, 1).
        test_fraction: Share to hold out for the test, in [0, 1).
        validation_is_test: Test on the source's validation part; the source must have no test part.
        image_size: Side of the square that images are resized to.
        fit: Placement of an image in that square: ``"crop"`` cuts its centre out, ``"pad"`` keeps it whole and
            fills the rest with its border's colour. By default it is cropped from 128 pixels a side, and padded below.
        skip_bad: Leave out samples that cannot be used instead of raising an error.
        seed: Seed of the splits and the long tail.
        open_all: Open every image file at once, to report files that cannot be read now. Otherwise files are opened
            when a batch needs them, as RGB images, and ``image_size`` must be given.

    Returns:
        The data set; its ``notes`` say what was done to the data.

    Raises:
        DataError: If the source cannot be read or used; the message names the file, row or column.
        OptionError: If an option is out of range or does not fit the source.
    """
    _check_fractions(validation_fraction, test_fraction)
    raw = _checked(read(source, Request(target, skip_bad, ignore=ignore, texts=texts, dialect=dialect)))
    whole = raw.train
    _check_kind(whole.is_table, ignore, image_size, fit)
    if validation_is_test:
        raw = _tested_on_validation(raw)
    raw = _hold_out(raw, test_fraction, validation_fraction, seed)
    if imbalance is not None:
        raw = _made_long_tailed(raw, imbalance, profile, rare, subset, seed)
    ready: TableParts | ImageParts
    if raw.schema is not None:
        # With it come pandas and pyarrow, for which images need not wait.
        from imbsam.data.columns import table_parts

        ready = table_parts(raw.parts, schema=raw.schema, ignore=ignore, whole=whole.frame)
    elif open_all or isinstance(whole.content, Tensor):
        ready = image_parts(raw.parts, image_size=image_size, skip_bad=skip_bad, fit=fit)
    elif image_size is None:
        raise OptionError("open_all=False needs image_size, because the size of unopened images is unknown.")
    else:
        ready = unopened_parts(raw.parts, image_size, fit)
    _check_classes_left(raw.classes, ready.samples["train"])
    origin = {"source": _canonical(source), "test_fraction": test_fraction, "seed": seed}
    return Dataset(
        name=raw.name,
        classes=raw.classes,
        train=ready.samples["train"],
        validation=ready.samples.get("validation"),
        test=ready.samples.get("test"),
        spec=ready.spec,
        preprocess={**ready.preprocess, **origin, "classes": list(raw.classes), "target": raw.target},
        notes=raw.notes + ready.notes,
    )


def load_like(
    source: str, preprocess: Mapping[str, object], *, skip_bad: bool = False, dialect: Dialect = AS_FOUND
) -> tuple[Samples, bool]:
    """Load further data in the same way as a data set.

    If the source has parts, its test part is used, else its validation part, else all of it. A :class:`DataWarning`
    says what was filled in or ignored. For ``"digits"`` the samples held out from training are used.

    Args:
        source: Source, as for :func:`load`. Images may also be in one folder without class folders, or in a single
            file, and a table may have no target column; the targets are then -1.
        preprocess: ``Dataset.preprocess`` of the training data.
        skip_bad: Leave out samples that cannot be used instead of raising an error.
        dialect: Format of a text table; what is left open is detected.

    Returns:
        The samples, and whether they are labelled.

    Raises:
        DataError: If the source cannot be read, does not fit, or has a class that was not in training.
    """
    samples, labelled, notes = load_further(source, preprocess, skip_bad=skip_bad, dialect=dialect)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    return samples, labelled


def load_further(
    source: str, preprocess: Mapping[str, object], *, skip_bad: bool = False, dialect: Dialect = AS_FOUND
) -> tuple[Samples, bool, tuple[str, ...]]:
    """Load further data as :func:`load_like` does, and return the notes instead of warning.

    Args:
        source: See :func:`load_like`.
        preprocess: See :func:`load_like`.
        skip_bad: See :func:`load_like`.
        dialect: See :func:`load_like`.

    Returns:
        The samples, whether they are labelled, and sentences that say what was filled in or ignored.

    Raises:
        DataError: In the cases of :func:`load_like`.
    """
    is_table = preprocess["kind"] == "table"
    target = cast(str | None, preprocess["target"])
    request = Request(target, skip_bad, labels_needed=False, dialect=dialect)
    if is_table:
        from imbsam.data.sources.schema import Schema

        schema = Schema.of(preprocess.get("schema"))
        dialect = replace(dialect, missing=schema.missing)
        request = replace(request, schema=schema, dialect=dialect, ignore=cast(list[str], preprocess["ignore"]))
    raw = read(source, request)
    name = next(name for name in reversed(PARTS) if name in raw.parts)
    part = raw.parts[name]
    if len(part) == 0:
        raise DataError(f"{source}: there are no samples.")
    if part.is_table != is_table:
        raise DataError(
            f"{source}: the model was trained on {'a table' if is_table else 'images'}, but this source is not."
        )
    part = _renumbered(source, part, raw.classes, cast(Sequence[str], preprocess["classes"]))
    notes = raw.notes
    if name == "train" and _canonical(source) == preprocess["source"]:
        if is_bundled(source):
            seed, fraction = cast(int, preprocess["seed"]), cast(float, preprocess["test_fraction"])
            part = part.take(stratified_split(part.targets, fraction, generator(seed, TEST))[1])
        else:
            notes += ("these are the data that the model was trained on, so results on them say little.",)
    if is_table:
        from imbsam.data.columns import further_rows

        samples, more = further_rows(part, preprocess)
    else:
        samples, more = further_images(part, preprocess, skip_bad=skip_bad)
    return samples, part.labelled, tuple(placed(source, notes + more))


def spec_of(preprocess: Mapping[str, object]) -> InputSpec:
    """Return the form of one sample for models trained on these data.

    Args:
        preprocess: ``Dataset.preprocess``, also if it was written to JSON and read again.

    Returns:
        The form, equal to ``Dataset.spec``.
    """
    fields = cast(Mapping[str, int], preprocess["spec"])
    lists = cast(Mapping[str, Sequence[float]], preprocess["spec"])
    if preprocess["kind"] == "table":
        return TableSpec(fields["numeric"], tuple(int(codes) for codes in lists["cardinalities"]))
    return ImageSpec(
        fields["channels"], fields["height"], fields["width"], mean=tuple(lists["mean"]), std=tuple(lists["std"])
    )


def _check_fractions(validation: float, test: float) -> None:
    for name, fraction in (("validation_fraction", validation), ("test_fraction", test)):
        if not 0 <= fraction < 1:
            raise OptionError(f"{name} must be in [0, 1); got {fraction}.")


def _check_kind(is_table: bool, ignore: Sequence[str], image_size: int | None, fit: Fit | None) -> None:
    if is_table and fit is not None:
        raise OptionError("fit is for images, but the data are a table. Leave the option out.")
    if is_table and image_size is not None:
        raise OptionError("image_size is for images, but the data are a table. Leave the option out.")
    if not is_table and ignore:
        raise OptionError("ignore names columns of a table, but the data are images. Leave the option out.")
    if image_size is not None and image_size < 1:
        raise OptionError(f"image_size must be at least 1; got {image_size}.")


def _checked(raw: Raw) -> Raw:
    """Check that there are at least two classes, each with training samples, and that every part is labelled."""
    train = raw.train
    if not train.labelled:
        raise DataError(f"{raw.name}: there are no training samples with a class.")
    for name, part in raw.parts.items():
        if not part.labelled:
            parts = {other: raw.parts[other] for other in raw.parts if other != name}
            raw = replace(raw, parts=parts).noting(f"the {name} part has no labels and was left out.")
            continue
        absent = sorted(set(part.targets.tolist()) - set(train.targets.tolist()))
        if absent:
            classes = listed([repr(raw.classes[index]) for index in absent])
            raise DataError(
                f"{raw.name}: the {name} part has samples of {classes}, which has no training samples. "
                "Add training samples or remove the class."
            )
    raw = _without_empty_classes(raw)
    if len(raw.classes) < 2:
        raise DataError(f"{raw.name}: there is only one class ({listed(raw.classes)}); a classifier needs two.")
    return raw


def _without_empty_classes(raw: Raw) -> Raw:
    counts = torch.bincount(raw.train.targets, minlength=len(raw.classes))
    empty = [name for name, count in zip(raw.classes, counts.tolist(), strict=True) if count == 0]
    if not empty:
        return raw
    kept = tuple(name for name in raw.classes if name not in empty)
    number = (counts > 0).long().cumsum(0) - 1
    parts = {name: replace(part, targets=number[part.targets]) for name, part in raw.parts.items()}
    note = f"classes without a sample were left out: {listed(empty)}."
    return replace(raw, classes=kept, parts=parts).noting(note)


def _tested_on_validation(raw: Raw) -> Raw:
    if "test" in raw.parts or "validation" not in raw.parts:
        found = "has its own test part" if "test" in raw.parts else "has no validation part"
        raise OptionError(f"{raw.name} {found}, so its validation part cannot be the test (--validation-is-test).")
    parts: dict[PartName, Part] = {"train": raw.train, "test": raw.parts["validation"]}
    return replace(raw, parts=parts).noting("the source's validation part is the test part.")


def _hold_out(raw: Raw, test_fraction: float, validation_fraction: float, seed: int) -> Raw:
    if "test" not in raw.parts and "validation" not in raw.parts and test_fraction > 0:
        raw = _split_off(raw, "test", test_fraction, generator(seed, TEST))
    if "validation" not in raw.parts and validation_fraction > 0:
        raw = _split_off(raw, "validation", validation_fraction, generator(seed, VALIDATION))
    return raw


def _split_off(raw: Raw, name: PartName, fraction: float, draw: torch.Generator) -> Raw:
    train = raw.train
    kept, held = stratified_split(train.targets, fraction, draw)
    if not len(held):
        return raw.noting(f"no class has {SMALLEST_SPLIT_CLASS} samples; there is no {name} part.")
    notes = [f"{len(held)} of {len(train)} training samples are held out as the {name} part."]
    counts = torch.bincount(train.targets, minlength=len(raw.classes)).tolist()
    whole = [f"{label!r} ({n})" for label, n in zip(raw.classes, counts, strict=True) if n < SMALLEST_SPLIT_CLASS]
    if whole:
        notes.append(
            f"classes of fewer than {SMALLEST_SPLIT_CLASS} samples stay whole in training, and the {name} part has "
            f"none of them: {listed(whole)}."
        )
    parts: dict[PartName, Part] = {**raw.parts, "train": train.take(kept), name: train.take(held)}
    return replace(raw, parts=parts).noting(*notes)


def _made_long_tailed(raw: Raw, imbalance: float, profile: Profile, rare: Rare, subset: Subset, seed: int) -> Raw:
    train, draw = raw.train, generator(seed, TAIL)
    kept = long_tail(train.targets, imbalance=imbalance, profile=profile, rare=rare, subset=subset, generator=draw)
    counts = torch.bincount(train.targets[kept])
    most, least = int(counts.max()), int(counts.min())
    floor = " No class goes below one sample." if most / imbalance < 1 else ""
    note = (
        f"{profile} long tail: {len(kept)} of {len(train)} training samples stay, {most} in the largest class and "
        f"{least} in the smallest (imbalance {most / least:.4g}; {imbalance:g} asked for).{floor}"
    )
    return replace(raw, parts={**raw.parts, "train": train.take(kept)}).noting(note)


def _check_classes_left(classes: Sequence[str], train: Samples) -> None:
    counts = torch.bincount(train.targets, minlength=len(classes)).tolist()
    gone = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 0]
    if gone:
        raise DataError(f"no training image of the classes {listed(gone)} can be read. Repair or remove these classes.")


def _renumbered(source: str, part: Part, classes: Sequence[str], trained: Sequence[str]) -> Part:
    """Return targets as indices into the classes of training; classes are matched by name."""
    if not part.labelled:
        return part
    index = {name: number for name in classes if (number := _same_class(name, trained)) is not None}
    present = [classes[index] for index in sorted(set(part.targets.tolist())) if index != UNLABELLED]
    unknown = [repr(name) for name in present if name not in index]
    if unknown:
        raise DataError(
            f"{source}: {listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not among the classes of training: "
            f"{listed(trained)}. To predict without classes, put images into one folder, or leave out the target "
            "column."
        )
    numbers = torch.tensor([index.get(name, UNLABELLED) for name in classes])
    return replace(part, targets=numbers[part.targets])


def _same_class(name: str, trained: Sequence[str]) -> int | None:
    """Return the class of training that a name stands for: the same text, else the only one with the same meaning."""
    if name in trained:
        return trained.index(name)
    from imbsam.data.sources.cells import meaning

    same = [number for number, other in enumerate(trained) if meaning(other) == meaning(name)]
    return same[0] if len(same) == 1 else None


def _canonical(source: str) -> str:
    return source if is_bundled(source) else readable(str(Path(source).expanduser().resolve()))
