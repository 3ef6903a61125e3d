"""`python -m userpilot_async.emulator`: the emulator on a port of this machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from userpilot_async.emulator import Emulator, serve


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m userpilot_async.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast as the vendor's jobs run")
    parser.add_argument("--api-key", action="append", help="accept this key only; may be repeated (default: any key)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer is held back")
    parser.add_argument("--rate-limit", type=int, default=600,
                        help="a key's identify calls, and its track calls, a minute (default: 600)")  # fmt: skip
    parser.add_argument("--no-imports", action="store_true", help="refuse imports, like a plan without them")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="answer requests for this host, too; may be repeated")  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="refuse what a Parcelvoy server takes and loses")
    parser.add_argument("--verbose", action="store_true", help="log every request to stderr")
    return parser.parse_args(argv)


def made(options: argparse.Namespace) -> Emulator:
    """The emulator that these options describe; raises ValueError for what cannot be."""
    return Emulator(
        api_keys=options.api_key,
        speed=options.speed,
        rate_limit=options.rate_limit,
        latency=options.latency,
        imports_enabled=not options.no_imports,
        allow_hosts=options.allow_host,
        strict=options.strict,
    )


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        emulator = made(options)
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(emulator, options.host, options.port, announce, verbose=options.verbose))
    except OSError as exc:
        host = ascii(options.host)[1:-1]
        print(f"cannot listen on {host}:{options.port}: {exc}", file=sys.stderr)
        return 1
    return 0


def announce(url: str) -> None:
    print(f"listening on {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
