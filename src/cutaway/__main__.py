"""`python -m cutaway` is `cutaway`."""

from __future__ import annotations

from cutaway.cli.main import main

if __name__ == "__main__":
    main()
