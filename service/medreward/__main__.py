"""`python -m medreward` is the command line."""

from medreward.cli import main

if __name__ == "__main__":
    main()
