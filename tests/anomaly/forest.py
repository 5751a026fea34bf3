"""What an isolation forest says of a row, by walking down each of its trees."""

from collections.abc import Sequence

from imbsam.anomaly.isolation import IsolationForest


def strangeness(forest: IsolationForest, row: Sequence[float]) -> float:
    """The score of one row."""
    lengths = [
        path(columns, cuts, leaves, row)
        for columns, cuts, leaves in zip(
            forest.column.tolist(), forest.cut.tolist(), forest.length.tolist(), strict=True
        )
    ]
    return 2 ** (-sum(lengths) / len(lengths) / float(forest.usual))


def path(columns: Sequence[int], cuts: Sequence[float], leaves: Sequence[float], row: Sequence[float]) -> float:
    """The length of a row's path down one tree."""
    return leaves[leaf(columns, cuts, row)]


def leaf(columns: Sequence[int], cuts: Sequence[float], row: Sequence[float]) -> int:
    """The leaf that a row comes to, counted from the left."""
    node = 0
    while node < len(columns):
        node = 2 * node + 1 + int(row[columns[node]] > cuts[node])
    return node - len(columns)
