"""What holds for every test: no time limits (machines are noisy), and no leftovers of the user's own settings."""

import pytest
from hypothesis import settings

settings.register_profile("affectcore", deadline=None)
settings.load_profile("affectcore")


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's run store."""
    monkeypatch.setenv("AFFECTCORE_STORE", str(tmp_path_factory.getbasetemp() / "store"))
