"""Which interface does the front end rely on? `python -m cutaway.web.openapi` writes it to frontend/openapi.json.

The types of the front end are made from that file, and a test fails when it is not what the server says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cutaway.web.app import create_app

PLACE = Path(__file__).resolve().parents[3] / "frontend" / "openapi.json"


def document() -> str:
    """The OpenAPI document as it is written."""
    return json.dumps(create_app().openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write the document."""
    PLACE.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"wrote {PLACE.name}\n")


if __name__ == "__main__":
    main()
