"""What an isolation forest says of a row, by walking down each of its trees."""


def strangeness(forest, row):
    """The score of one row."""
    lengths = [
        path(columns, cuts, leaves, row)
        for columns, cuts, leaves in zip(
            forest.column.tolist(), forest.cut.tolist(), forest.length.tolist(), strict=True
        )
    ]
    return 2 ** (-sum(lengths) / len(lengths) / float(forest.usual))


def path(columns, cuts, leaves, row):
    """The length of a row's path down one tree."""
    return leaves[leaf(columns, cuts, row)]


def leaf(columns, cuts, row):
    """The leaf that a row comes to, counted from the left."""
    node = 0
    while node < len(columns):
        node = 2 * node + 1 + int(row[columns[node]] > cuts[node])
    return node - len(columns)
