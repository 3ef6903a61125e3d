"""`userpilot-async import`: files of history, through the Import API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from .._errors.tree import UserpilotError
from ..imports import CONVERTERS, RowMapping, journal_path, mapping_of
from ..imports._anonymous import ANONYMOUS, Anonymous
from ..imports._explaining import Explanation, explanations_of
from ..imports._files import location_of
from ..imports._remote import RemoteFile, is_remote
from ..imports._streams import LinesOfStream
from ._console import echo, echo_json, stderr
from ._exits import Failed
from ._import_explained import as_dict, as_text
from ._importing import STANDARD_INPUT, Importing, ImportOptions, standard_input
from ._progress import Progress
from ._run import run_command
from ._server import Server, json_option, talks_to_server

PAUSE = 10.0  # seconds between two plain lines, and only if there is news: a history may take hours

EXISTING = click.Path(exists=True, readable=True, path_type=Path)


def _origins(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[Path | RemoteFile, ...]:
    """Each FILE: one of this machine, one in a bucket, or `STANDARD_INPUT`; raises `click.UsageError`."""
    found: list[Path | RemoteFile] = []
    for name in given:
        if is_remote(name):
            try:
                found.append(RemoteFile(name))
            except UserpilotError as exc:
                raise click.BadParameter(str(exc), context, parameter) from exc
        else:
            found.append(STANDARD_INPUT if name == "-" else Path(EXISTING.convert(name, parameter, context)))
    return tuple(found)


@click.command("import", short_help="Import history from files.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, callback=_origins)
@click.option("--check", is_flag=True, help="Check every row, and send nothing; needs neither key nor server.")
@click.option("--explain", is_flag=True,
              help="Print some lines beside the rows that they become, and what went where; send nothing.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Write the upload files to FILE.upload/, and send nothing.")
@click.option("--dry-run-to", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="Like --dry-run, but write into this directory.")  # fmt: skip
@click.option("--from", "converted_from", type=click.Choice(list(CONVERTERS)),
              help="FILE is an export of this tool, as JSON lines: convert its events to rows.")  # fmt: skip
@click.option("--company-group", metavar="NAME",
              help="With --from: the type of groups that are companies. Default: one that is called so.")  # fmt: skip
@click.option("--anonymous", type=click.Choice(ANONYMOUS), default="keep", show_default=True,
              help="With --from: rows of people who were not known yet: under their anonymous id, left out, or joined"
              " with the user whom they became.")  # fmt: skip
@click.option("--shorten", is_flag=True,
              help="Leave the largest properties out of events over 10 KB, instead of refusing these.")  # fmt: skip
@click.option("--map", "mapping", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A map (TOML) that renames, leaves out and adds events and properties.")  # fmt: skip
@click.option("--journal", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="The file for the progress. Default: FILE.import; - and buckets have none.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Check all rows of all FILEs first, and send none if one is bad.")
@click.option("--rejected", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="The file for bad rows. Default: FILE.rejected.ndjson if rows are sent, else none.")  # fmt: skip
@click.option("--force", is_flag=True, help="Import FILE again, although it was imported: its events are stored twice.")
@click.option("--rebind", is_flag=True, help="Continue with another key or server than the import began with.")
@json_option
@talks_to_server
def import_(
    server: Server,
    files: tuple[Path | RemoteFile, ...],
    check: bool,
    explain: bool,
    dry_run: bool,
    dry_run_to: Path | None,
    converted_from: str | None,
    company_group: str | None,
    anonymous: Anonymous,
    shorten: bool,
    mapping: Path | None,
    journal: Path | None,
    strict: bool,
    rejected: Path | None,
    force: bool,
    rebind: bool,
    as_json: bool,
) -> None:
    """Import users, companies, page views and events, each with the time at which it happened.

    FILE is NDJSON, or CSV with these names in its first line; .gz is unpacked. A zip or tar file, or a folder, of NDJSON
    files is read as one file. - is standard input; s3://BUCKET/… and gs://BUCKET/… are read with s3fs and gcsfs. A row
    of each kind:

    \b
    {"event_type": "identify_company", "company_id": "acme", "inserted_at": "2024-11-30T09:00:00Z", "metadata": {"name": "Acme"}}
    {"event_type": "identify_user", "user_id": "u1", "company_id": "acme", "inserted_at": "2024-11-30T09:00:00Z", "metadata": {"plan": "pro"}}
    {"event_type": "page_view", "user_id": "u1", "url": "https://example.com/reports", "inserted_at": "2024-12-01T08:55:43Z"}
    {"event_type": "track", "user_id": "u1", "event_name": "report_exported", "inserted_at": "2024-12-01T08:55:44Z"}

    Rows are checked, cut into files that the server accepts, and uploaded one after the other. Each job is watched to its
    end. Bad rows are named by line, field and rule, never by their values, and kept in FILE.rejected.ndjson.

    Lines of an export that give no row (what its tool collects by itself) are skipped, counted and named by kind.

    Progress is recorded in FILE.import. After Ctrl-C or a crash, the same command continues from there. A FILE that was
    imported completely is skipped; it is refused if it has changed since, or was imported elsewhere or with another key.

    Several FILEs are one history and one import, with few uploads: name the oldest first. Those that were imported before
    are not sent again. Properties of earlier rows are carried into each later identify row of the same user or company,
    because rows with fewer properties could blank them.

    A server that cannot be reached at the start ends the command. Later, the command waits for the end of an outage.
    """  # noqa: E501  # a line that is to be copied stays one
    paths, dry_run = list(dict.fromkeys(files)), dry_run or dry_run_to is not None
    options = ImportOptions(
        check=check, dry_run=dry_run, dry_run_to=dry_run_to, strict=strict, force=force, rebind=rebind,
        converted_from=converted_from, rejected=rejected, company_group=company_group, shorten=shorten,
        anonymous=anonymous, mapping=_mapping(mapping), journal=journal,
    )  # fmt: skip
    _check_usage(paths, options, explain=explain)
    if explain:
        _explain(paths, options, as_json=as_json)
        return
    api, progress = server.api() if options.sends else None, Progress(stderr(), PAUSE, only_news=True)
    importing = Importing(api, location_of(paths), options, progress)
    run_command(
        importing, as_json=as_json, text=importing.as_text, fields=importing.as_dict, farewell=importing.farewell
    )


def _mapping(path: Path | None) -> RowMapping | None:
    """The map in the file, checked as a whole; raises `click.UsageError`."""
    try:
        return None if path is None else mapping_of(path)
    except (UserpilotError, OSError) as exc:
        raise click.UsageError(str(exc)) from exc


def _explain(paths: Sequence[Path | RemoteFile], options: ImportOptions, *, as_json: bool) -> None:
    """Print what becomes of the lines of each file; raises `Failed` for one that cannot be read."""
    found: dict[str, Explanation] = {}
    try:
        origins = [LinesOfStream(standard_input()) if path is STANDARD_INPUT else path for path in paths]
        for path, explanation in zip(paths, explanations_of(origins, options.conversion), strict=True):
            found[str(path)] = explanation
    except (UserpilotError, OSError) as exc:
        raise Failed(f"{location_of(paths)}: {exc}") from exc
    if as_json:
        echo_json({"reports": [as_dict(name, one) for name, one in found.items()]})
    else:
        for name, one in found.items():
            echo(*as_text(name, one))


def _check_usage(paths: Sequence[Path | RemoteFile], options: ImportOptions, *, explain: bool) -> None:
    """Raise `click.UsageError` for options that contradict each other, or the files."""
    if explain and (options.check or options.dry_run or options.force or options.rebind):
        raise click.UsageError("--explain sends nothing and checks nothing else: give it without the other ways to run")
    if options.check and options.dry_run:
        raise click.UsageError("--check and --dry-run exclude each other: a dry run checks all rows, too")
    if options.check and (options.force or options.rebind):
        raise click.UsageError("--check sends nothing, so --force and --rebind have no effect")
    if options.company_group is not None and options.converted_from is None:
        raise click.UsageError("--company-group is of an export: name its tool with --from")
    if options.anonymous != "keep" and options.converted_from is None:
        raise click.UsageError("--anonymous is of an export: name its tool with --from")
    if STANDARD_INPUT in paths and len(paths) > 1:
        raise click.UsageError("- is standard input, and the only FILE then")
    twice = "--strict" if options.strict and not options.check else ""
    twice = "--anonymous join" if options.anonymous == "join" else twice
    if STANDARD_INPUT in paths and twice:
        raise click.UsageError(f"{twice} reads FILE twice, and standard input can be read once: save it as a file")
    nowhere = [path for path in paths if path is STANDARD_INPUT or not isinstance(path, Path)]
    if nowhere and options.sends and not explain and options.journal is None:
        what = "standard input" if nowhere[0] is STANDARD_INPUT else str(nowhere[0])
        raise click.UsageError(
            f"name a file of this machine for the progress with --journal: nothing can lie beside {what}, and without "
            "a journal an import that was interrupted would begin anew"
        )
    if options.rejected is None:
        return
    local = [path for path in paths if isinstance(path, Path) and path is not STANDARD_INPUT]
    journal = options.journal or (None if nowhere else journal_path(paths))
    own = {os.path.realpath(path) for path in [*local, *([] if journal is None else [journal, Path(f"{journal}-wal")])]}
    if os.path.realpath(options.rejected) in own:
        raise click.UsageError("--rejected must name another file than the one to import, and than its journal")
