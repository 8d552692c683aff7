"""`python -m medreward_client` is `medreward-client`."""

from medreward_client._cli import main

if __name__ == "__main__":
    main()
