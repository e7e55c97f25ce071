"""``python -m pluperfect`` is the command line."""

from .authoring.cli import main

if __name__ == "__main__":
    main(prog_name="pluperfect")
