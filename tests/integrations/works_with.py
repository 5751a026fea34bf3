"""What the optimizers work with, and the tests that show it: the rows of the table on the page of the integrations.

``python tests/integrations/works_with.py`` writes the table into the page; ``test_page.py`` holds the page to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/integrations.md"
COLUMNS = ("precision", "accumulation", "clipping", "DDP", "checkpoint")
HEADER = f"| works with | version | {' | '.join(COLUMNS)} |"


@dataclass(frozen=True)
class Cell:
    """What the page says, and the tests behind it: ``file::function``, the file under ``tests``."""

    says: str
    tests: Sequence[str]


@dataclass(frozen=True)
class Row:
    """A framework: the distribution it comes in, and what was tested of it, by column."""

    distribution: str
    cells: Mapping[str, Cell]


def of(file: str, **cells: tuple[str, ...]) -> dict[str, Cell]:
    """Cells whose tests are in one file: first what the page says, then the functions."""
    return {
        column: Cell(says, [test if "::" in test else f"{file}::{test}" for test in tests])
        for column, (says, *tests) in cells.items()
    }


RESUMED = "test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does"
ACCUMULATED = "test_accumulation_of_micro_batches_is_the_step_over_one_batch"
CLIPPED = "test_clipping_sees_the_combined_gradient"
TWO_PROCESSES = "test_two_processes_under_ddp_end_at_the_weights_of_one"
SHARDED_PROCESSES = "test_two_processes_that_share_sharded_weights_end_at_the_weights_of_one"
EXAMPLES = "integrations/test_examples.py"

ROWS: Mapping[str, Row] = {
    "plain PyTorch": Row(
        "torch",
        of(
            "optim/test_precision.py",
            precision=(
                "any, GradScaler",
                "test_an_overflow_in_any_pass_leaves_everything_as_it_was_and_lowers_the_scale",
                "optim/test_loss_scale.py::test_every_method_steps_alike_under_a_loss_scale_that_changes",
                "optim/test_parameters.py::test_groups_of_two_dtypes_come_back_bitwise_and_learn_each_at_its_rate",
            ),
            accumulation=("`p.split(n)`", f"{EXAMPLES}::test_micro_batches_and_a_scaler_agree_with_whole_batches"),
            clipping=("yes", f"{EXAMPLES}::test_micro_batches_and_a_scaler_agree_with_whole_batches"),
            DDP=("yes", "optim/test_ranks.py::test_shards_on_ranks_equal_the_whole_batch_in_one_process"),
            checkpoint=(
                "resumes exactly",
                "optim/test_contract.py::test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit",
            ),
        ),
    ),
    "fully_shard (FSDP2)": Row(
        "torch",
        of(
            "optim/test_sharded.py",
            precision=("the model's own", "test_sharded_weights_end_where_replicated_ones_do"),
            accumulation=("`p.split(n)`", "test_micro_batches_of_sharded_weights_agree_with_whole_batches"),
            clipping=("yes", "test_sharded_weights_end_where_replicated_ones_do"),
            checkpoint=("resumes exactly", "test_a_sharded_run_that_is_resumed_ends_at_the_same_bits"),
        ),
    ),
    "torch.compile": Row(
        "torch",
        of(
            "integrations/test_compile.py",
            precision=(
                "float32, bf16",
                "optim/test_compiled.py::test_inductor_trains_the_model_to_rounding",
                "optim/test_compiled.py::test_every_method_trains_a_compiled_model_bit_for_bit_as_it_is",
                "optim/test_compiled.py::test_a_tail_of_any_size_takes_few_graphs",
                "test_bf16_is_the_plain_loop_under_autocast",
            ),
            accumulation=("`p.split(n)`", ACCUMULATED),
            clipping=("yes", CLIPPED),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "Lightning": Row(
        "pytorch-lightning",
        of(
            "integrations/test_lightning.py",
            precision=(
                "bf16-mixed, 16-mixed",
                "test_bf16_mixed_is_the_plain_loop_under_autocast",
                "test_16_mixed_with_accumulation_is_the_plain_loop_with_a_scaler",
            ),
            accumulation=("`accumulate_grad_batches`", ACCUMULATED),
            clipping=("norm, value", CLIPPED),
            DDP=("yes", TWO_PROCESSES),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "Lightning Fabric": Row(
        "pytorch-lightning",
        of(
            "integrations/test_fabric.py",
            precision=(
                "bf16-true, bf16-mixed, 16-mixed",
                "test_bf16_true_is_the_plain_loop_over_a_model_of_bfloat16",
                "test_bf16_mixed_is_the_plain_loop_under_autocast",
                "test_16_mixed_with_accumulation_is_the_plain_loop_with_a_scaler",
            ),
            accumulation=("`more=True`", ACCUMULATED),
            clipping=("`clip_gradients`", CLIPPED),
            DDP=("yes, and `fully_shard`", TWO_PROCESSES, SHARDED_PROCESSES),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "transformers": Row(
        "transformers",
        of(
            "integrations/test_transformers.py",
            precision=("bf16", "test_bf16_is_the_plain_loop_under_autocast"),
            accumulation=("`gradient_accumulation_steps`", ACCUMULATED),
            clipping=("`max_grad_norm`", CLIPPED),
            DDP=("yes", f"integrations/test_accelerate.py::{TWO_PROCESSES}"),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "LoRA of peft": Row(
        "peft",
        of(
            "integrations/test_peft.py",
            precision=("float64, bfloat16", "test_every_method_perturbs_and_trains_the_adapters_alone"),
            clipping=("yes", f"{EXAMPLES}::test_adapters_on_a_model_from_a_folder_end_at_the_weights_of_a_plain_loop"),
            checkpoint=(
                "adapters alone",
                "test_merged_adapters_are_the_trained_model_and_a_checkpoint_holds_the_adapters_alone",
            ),
        ),
    ),
    "Accelerate": Row(
        "accelerate",
        of(
            "integrations/test_accelerate.py",
            precision=(
                "bf16, fp16",
                "test_bf16_is_the_plain_loop_under_autocast",
                "test_a_grad_scaler_whose_scale_grows_changes_no_bit_in_float64",
            ),
            accumulation=("`accumulate`", ACCUMULATED),
            clipping=("`clip_grad_norm_`", CLIPPED),
            DDP=("yes", TWO_PROCESSES),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "skorch": Row(
        "skorch",
        of(
            "integrations/test_skorch.py",
            precision=("the model's own", "test_float64_ends_at_the_same_weights_bit_for_bit"),
            clipping=("`GradientNormClipping`", CLIPPED),
            checkpoint=("resumes exactly", RESUMED),
        ),
    ),
    "closures": Row(
        "torch",
        of(
            "integrations/test_closures.py",
            precision=("the model's own", "test_a_closure_as_of_lbfgs"),
            accumulation=("the closure's own", "test_a_closure_as_of_composer_that_loops_over_micro_batches"),
        ),
    ),
}


def table() -> str:
    """The rows in Markdown, with the versions that are installed."""
    lines = [HEADER, "|" + "---|" * (len(COLUMNS) + 2)]
    for name, row in ROWS.items():
        cells = [row.cells[column].says if column in row.cells else "-" for column in COLUMNS]
        lines.append(f"| {' | '.join([name, installed(row), *cells])} |")
    return "\n".join(lines) + "\n"


def installed(row: Row) -> str:
    """The version of a row's distribution, without the build of torch."""
    return version(row.distribution).split("+")[0]


def with_table(page: str) -> str:
    """The page with the table in the place of the one it has."""
    start = page.index("| works with |")
    return page[:start] + table() + page[page.index("\n\n", start) + 1 :]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
