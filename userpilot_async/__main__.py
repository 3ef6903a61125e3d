"""`userpilot-async`, and `python -m userpilot_async`: the command line, if its packages are here."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exits with 2 and one sentence if click or rich is missing."""
    try:
        from .cli import cli
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write('The command line needs click and rich: pip install "userpilot-async[cli]"\n')
        sys.exit(2)
    cli(prog_name="userpilot-async")


if __name__ == "__main__":
    main()
