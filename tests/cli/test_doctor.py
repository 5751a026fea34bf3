import importlib
import re
from importlib.metadata import version

from imbsam.cli import doctor


def test_versions_and_devices_are_told(imbsam):
    ran = imbsam("doctor")
    assert (ran.code, ran.err) == (0, "")
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert version("torch") in lines["torch"]
    assert re.search(r"\d+ of \d+ cores", lines["threads"])
    for name in (*doctor.REQUIRED, *doctor.OPTIONAL, "python", "cpu"):
        assert name in lines


def test_a_missing_package_is_told_with_how_to_install_it(imbsam, monkeypatch):
    monkeypatch.setattr(doctor, "REQUIRED", (*doctor.REQUIRED, "no-such-package"))
    ran = imbsam("doctor")
    assert ran.code == 1
    assert re.search(r"no-such-package +MISSING: pip install no-such-package", ran.out)


def test_a_package_that_breaks_is_told_apart_from_one_that_is_missing(imbsam, monkeypatch):
    real = importlib.import_module

    def importing(name, *rest):
        if name == "timm":
            raise ImportError(name)
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", importing)
    ran = imbsam("doctor")
    assert ran.code == 0
    assert re.search(r"timm +not installed", ran.out)
    assert re.search(r"torchvision +installed but broken \(RuntimeError: operator torchvision::nms", ran.out)
