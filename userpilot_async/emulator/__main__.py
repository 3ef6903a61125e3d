"""`python -m userpilot_async.emulator`: the command `userpilot-async emulate`, with defaults for programs.

It takes a free port, and prints no line for a request unless `--verbose` is given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

try:
    import click
except ModuleNotFoundError:
    sys.stderr.write('the emulator needs click: pip install "userpilot-async[emulator]"\n')
    sys.exit(2)

from userpilot_async.emulator._command import CannotListen, arguments, made, run
from userpilot_async.emulator._summary import plain

__all__ = ["arguments", "made", "main"]

CANNOT_LISTEN = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        run(arguments(argv))
    except CannotListen as exc:
        exc.show()
        return CANNOT_LISTEN
    except click.UsageError as exc:
        sentence = exc.format_message().rstrip(".")
        click.echo(f"Error: {plain(sentence)}. See: python -m userpilot_async.emulator --help", err=True)
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.exceptions.Exit as exc:  # of --help
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
