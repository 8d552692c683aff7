"""`python -m medreward_trainer`, for `accelerate launch -m`."""

from medreward_trainer.cli import main

if __name__ == "__main__":
    main()
