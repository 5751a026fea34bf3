import gc

import pytest

from imbsam.storage.imports import large_import


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.enable()


def test_no_garbage_is_collected_while_a_package_is_imported():
    frozen = gc.get_freeze_count()
    with large_import("nowhere"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_a_package_that_cannot_be_imported_leaves_the_collector_on():
    with pytest.raises(ModuleNotFoundError), large_import("nowhere"):
        import nowhere  # noqa: F401
    assert gc.isenabled()


def test_nothing_changes_where_the_package_is_loaded():
    with large_import("sys"):
        assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    with large_import("nowhere"):
        assert not gc.isenabled()
    assert not gc.isenabled()
