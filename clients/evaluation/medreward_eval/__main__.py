"""Runs the command by `python -m medreward_eval`."""

from medreward_eval.cli import main

if __name__ == "__main__":
    main()
