import json


def test_the_best_options_are_written_to_be_trained_with(imbsam, tmp_path, quick):
    words = ("tune", "digits", *quick, "--search", "lr=0.1|1e-6", "--trials", 3, "--jobs", 1, "--out", "t")
    ran = imbsam(*words)
    assert ran.code == 0
    assert ran.err.count("trial ") == 3
    assert "train with it: imbsam train digits --config t/best.yaml" in ran.out
    assert imbsam("train", "digits", "--config", "t/best.yaml", "--out", "r").code == 0
    best = json.loads(imbsam(*words, "--json").out)["best"]
    result = json.loads((tmp_path / "r/result.json").read_text())
    assert result["config"]["lr"] == best["values"]["lr"] == 0.1
    assert result["validation"]["balanced"] == best["score"]


def test_a_bad_search_is_one_message(fails):
    assert fails("tune", "digits", "--search", "rho=5").startswith("--search rho=5: give LOW:HIGH")
    assert fails("tune", "digits", "--seeds", 0).startswith("--seeds must be at least 1")
    assert fails("tune").startswith("name what to tune on")
