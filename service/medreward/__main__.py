"""The command line as a module: `python -m medreward`."""

from medreward.cli import main

if __name__ == "__main__":
    main()
