from __future__ import annotations

import os

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite", action="store_true", help="write the transcripts in specs/scenarios anew; read the diff"
    )


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_their_own(tmp_path_factory):
    """Whoever runs the tests has settings and runs; they are neither read nor written here."""
    mine = [name for name in os.environ if name.startswith("PLUPERFECT_") and name != "PLUPERFECT_SEED"]
    before = {name: os.environ.pop(name) for name in mine}
    os.environ["PLUPERFECT_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    del os.environ["PLUPERFECT_HOME"]
    os.environ.update(before)
