"""The page on integrations: a test stands behind each cell of its table, and its snippets are lines of the examples."""

import re
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE[PAGE.index("| works with") :].split("\n\n")[0].splitlines()
]
COLUMNS, ROWS = TABLE[0][2:], {row[0]: row[1:] for row in TABLE[2:]}

EVIDENCE = {
    "plain PyTorch": {
        "precision": ["optim/test_loss_scale.py::test_every_method_steps_alike_under_a_loss_scale_that_changes"],
        "accumulation": ["integrations/test_examples.py::test_micro_batches_and_a_scaler_agree_with_whole_batches"],
        "clipping": ["integrations/test_examples.py::test_micro_batches_and_a_scaler_agree_with_whole_batches"],
        "DDP": ["optim/test_ranks.py::test_shards_on_ranks_equal_the_whole_batch_in_one_process"],
        "checkpoint": ["optim/test_contract.py::test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit"],
    },
    "Lightning": {
        "precision": [
            "integrations/test_lightning.py::test_bf16_mixed_is_the_plain_loop_under_autocast",
            "integrations/test_lightning.py::test_16_mixed_with_accumulation_is_the_plain_loop_with_a_scaler",
        ],
        "DDP": ["integrations/test_lightning.py::test_two_processes_under_ddp_end_at_the_weights_of_one"],
    },
    "transformers": {
        "precision": ["integrations/test_transformers.py::test_bf16_is_the_plain_loop_under_autocast"],
        "DDP": ["integrations/test_accelerate.py::test_two_processes_under_ddp_end_at_the_weights_of_one"],
    },
    "Accelerate": {
        "precision": [
            "integrations/test_accelerate.py::test_bf16_is_the_plain_loop_under_autocast",
            "integrations/test_accelerate.py::test_a_grad_scaler_whose_scale_grows_changes_no_bit_in_float64",
        ],
        "DDP": ["integrations/test_accelerate.py::test_two_processes_under_ddp_end_at_the_weights_of_one"],
    },
    "skorch": {"precision": ["integrations/test_skorch.py::test_float64_ends_at_the_same_weights_bit_for_bit"]},
}
SAME_EVERYWHERE = {
    "accumulation": "test_accumulation_of_micro_batches_is_the_step_over_one_batch",
    "clipping": "test_clipping_sees_the_combined_gradient",
    "checkpoint": "test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does",
}
DISTRIBUTIONS = {
    "plain PyTorch": "torch",
    "Lightning": "pytorch-lightning",
    "transformers": "transformers",
    "Accelerate": "accelerate",
    "skorch": "skorch",
}


def evidence_of(framework: str, column: str) -> list[str]:
    if column in EVIDENCE[framework]:
        return EVIDENCE[framework][column]
    file = f"integrations/test_{framework.lower()}.py"
    return [f"{file}::{SAME_EVERYWHERE[column]}"] if column in SAME_EVERYWHERE else []


def exists(test: str) -> bool:
    file, name = test.split("::")
    return f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("framework", DISTRIBUTIONS)
def test_a_test_stands_behind_every_cell_and_none_behind_a_dash(framework: str) -> None:
    for column, cell in zip(COLUMNS, ROWS[framework][1:], strict=True):
        behind = evidence_of(framework, column)
        assert (cell != "-") == (bool(behind) and all(exists(test) for test in behind)), behind


@pytest.mark.parametrize("framework", DISTRIBUTIONS)
def test_the_versions_are_those_the_tests_ran_with(framework: str) -> None:
    installed = version(DISTRIBUTIONS[framework]).split("+")[0]
    assert ROWS[framework][0] == installed
    assert f"{DISTRIBUTIONS[framework]}=={installed}" in (ROOT / "constraints.txt").read_text()


def test_the_table_has_these_rows() -> None:
    assert list(ROWS) == list(DISTRIBUTIONS)


def test_every_snippet_is_in_the_example_its_section_names() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    snippets = 0
    for section in sections:
        named = [ROOT / path for path in re.findall(r"\((?:\.\./)(examples/\w+\.py)\)", section)]
        lines = "\n".join(path.read_text(encoding="utf-8") for path in named)
        for snippet in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
            indented = (textwrap.indent(snippet, " " * spaces) for spaces in (0, 4, 8, 12))
            assert any(text in lines for text in indented), snippet
            snippets += 1
    assert snippets >= 8


def test_every_example_is_on_the_page() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        assert path.stem == "digits" or f"examples/{path.name}" in PAGE
