from imbsam.report import summarise
from imbsam.report.files import read_study
from imbsam.report.tables import configuration, cost, differences, scores
from made_records import made_metrics, made_result


def result(label, seed, few):
    return made_result(label, seed, made_metrics(few=few, many=None))


def column(table, name):
    place = list(table.columns).index(name)
    return {row[0].text: row[place] for row in table.rows}


def test_the_best_of_a_column_stands_out_and_so_do_all_that_look_equal_to_it():
    table = scores(summarise([result("sgd", 0, 0.50), result("sam", 0, 0.60001), result("imbsam", 0, 0.6)]))
    few = column(table, "few-shot recall")
    assert [cell.strong for cell in few.values()] == [False, True, True]
    assert [cell.text for cell in column(table, "many-shot recall").values()] == ["–", "–", "–"]


def test_a_difference_stands_out_only_where_its_interval_excludes_zero():
    runs = [result("sgd", s, 0.5) for s in range(3)]
    runs += [result("clear", s, few) for s, few in enumerate([0.60, 0.61, 0.62])]
    runs += [result("noisy", s, few) for s, few in enumerate([0.3, 0.6, 0.9])]
    few = column(differences(summarise(runs)), "few-shot recall")
    assert (few["clear"].strong, few["noisy"].strong) == (True, False)
    assert few["clear"].text.startswith("+11.0 ± ")


def test_a_single_method_has_no_differences():
    assert differences(summarise([result("sgd", 0, 0.5)])) is None


def test_options_are_split_into_those_that_differ_and_those_in_common(comparison, tmp_path):
    differing, shared = configuration(read_study(comparison(tmp_path, seeds=2, epochs=1)))
    rho = next(row for row in differing.rows if row[0].text == "rho")
    assert [(cell.text, cell.strong) for cell in rho[1:]] == [("0.0", False), ("0.2", True), ("0.2", True)]
    assert {row[0].text: row[1].text for row in shared.rows} == {"seed": "0, 1", "lr": "0.1", "out": "null"}


def test_cost_is_a_mean_over_seeds_and_a_ratio_to_the_baseline(comparison, tmp_path):
    comparison(tmp_path, methods=("sgd", "sam"), seeds=2, epochs=1, train_seconds=8.0)
    table = cost(read_study(tmp_path))
    assert column(table, "training (s)")["sam"].text == "8.0 ± 0.0"
    assert column(table, "times sgd")["sam"].text == "1.00"
    assert column(table, "rows per row of a plain step")["sam"].text == "2.00"


def test_cost_of_a_baseline_that_took_no_time_has_no_ratio(comparison, tmp_path):
    comparison(tmp_path, methods=("sgd", "sam"), seeds=1, epochs=1, train_seconds=0.0)
    assert column(cost(read_study(tmp_path)), "times sgd")["sam"].text == "–"


def test_every_row_is_as_long_as_the_heading(comparison, tmp_path):
    study = read_study(comparison(tmp_path, seeds=1, epochs=1))
    summary = summarise([run.result for run in study.runs])
    tables = [scores(summary), differences(summary), cost(study), *configuration(study)]
    assert [{len(row) for row in table.rows} for table in tables] == [{len(table.columns)} for table in tables]
