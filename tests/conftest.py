from __future__ import annotations


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite", action="store_true", help="write the transcripts in specs/scenarios anew; read the diff"
    )
