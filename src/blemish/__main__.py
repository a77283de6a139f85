"""`python -m blemish`: the same as `blemish`."""

from blemish.cli import main

if __name__ == "__main__":
    main()
