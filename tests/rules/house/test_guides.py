"""The README and the guides: short, linked, complete, and true to the code that they speak of."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import userpilot_async
from tests.harness.documents import ALL, CONTRIBUTING, GUIDES, PAGES, README, ROOT, Block
from userpilot_async import UserpilotError
from userpilot_async._account.losses import REMEDIES, Close, Losses, Rest, close_line, loss_line
from userpilot_async._protocol.verdict import Meaning
from userpilot_async.guides import ALSO, TOPICS, guide, near, summary, title

PACKAGE = Path(userpilot_async.__file__).parent
LONGEST_README, LONGEST_GUIDE = 160, 200  # lines
WIDEST_LINE, WIDEST_SUMMARY = 78, 66  # characters: of code in a terminal of 80, and behind the name of a guide
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.relative_to(PACKAGE).as_posix().startswith(("emulator/", "cli/"))
}


# ── their form ──


def test_the_readme_is_short() -> None:
    assert LONGEST_README >= len(README.lines)


@pytest.mark.parametrize("topic", PAGES)
def test_a_guide_is_short_and_says_what_it_is_about(topic: str) -> None:
    lines = PAGES[topic].lines

    assert LONGEST_GUIDE >= len(lines)
    assert re.fullmatch(r"# \S.*", lines[0])
    assert ["", ""] == [lines[1], lines[3]]
    assert WIDEST_SUMMARY >= len(summary(topic).replace("`", ""))
    assert summary(topic).endswith(".")


def test_all_guides_are_listed_and_come_with_the_package() -> None:
    assert sorted(TOPICS) == sorted(PAGES)
    assert {topic: PAGES[topic].text for topic in TOPICS} == {topic: guide(topic) for topic in TOPICS}
    assert "FastAPI and Starlette" == title("fastapi")
    assert 'packages = ["userpilot_async"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def is_wide(block: Block) -> list[str]:
    return [line for line in block.code.splitlines() if len(line) > WIDEST_LINE]


@pytest.mark.parametrize("topic", PAGES)
def test_code_fits_into_a_terminal(topic: str) -> None:
    """JSON lines are files, and log lines are as long as they are."""
    blocks = [block for block in PAGES[topic].blocks if block.language not in ("json", "text", "")]

    assert [] == [line for block in blocks for line in is_wide(block)]


# ── links ──


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page) -> None:
    folder = GUIDES if page.name.removesuffix(".md") in PAGES else ROOT
    for target in LINK.findall(page.prose):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = folder / path if path else folder / page.name
        assert there.is_file(), target
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), target


def test_the_readme_leads_to_every_guide() -> None:
    linked = {target.partition("#")[0] for target in LINK.findall(README.prose)}

    assert set() == {f"userpilot_async/guides/{topic}.md" for topic in TOPICS} - linked
    assert {"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} <= linked


@pytest.mark.parametrize(
    "wanted",
    [
        "tests", "switching off", "threads", "celery", "django", "logging", "metrics", "several workers", "kubernetes",
        "reason", "exception", "migrating", "versions", "deleting people", "history", "redis", "command line",
    ],
)  # fmt: skip
def test_what_people_look_for_stands_in_the_readmes_table_of_guides(wanted: str) -> None:
    table = README.text[README.text.index("## Where to read on") :]

    assert wanted in table.lower()


def test_the_outbox_stands_on_the_first_screen() -> None:
    assert "More than one process? [Use an outbox]" in "\n".join(README.lines[:25])


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("fastpi", "fastapi"),
        ("k8s", "deployment"),
        ("threads", "scripts"),
        ("errors.md", "errors"),
        ("Log", "logging"),
    ],
)
def test_a_word_that_is_no_guide_leads_to_one(word: str, meant: str) -> None:
    assert meant in near(word)


def test_words_lead_to_guides_that_there_are() -> None:
    assert set(ALSO.values()) <= set(TOPICS)
    assert set() == set(ALSO) & set(TOPICS)
    assert [] == near("xyzzy")
    with pytest.raises(KeyError):
        guide("../fastapi")


# ── errors.md: all that can go wrong ──

ERRORS = PAGES["errors"].text


def test_every_exception_of_the_package_is_named() -> None:
    for module in pkgutil.iter_modules(userpilot_async.__path__, "userpilot_async."):
        if module.name.rpartition(".")[2] in ("imports", "parcelvoy", "redis", "sqlite"):
            importlib.import_module(module.name)

    def below(cls: type) -> set[type]:
        return {cls}.union(*(below(one) for one in cls.__subclasses__()))

    names = {cls.__name__ for cls in below(UserpilotError) if cls.__module__.startswith("userpilot_async")}
    public = names - {"BadKey", "NewerVersion"}  # users get the classes above these
    assert 16 <= len(public)
    assert set() == {name for name in public if f"`{name}`" not in ERRORS}


def reasons() -> set[str]:
    """Every reason that an outcome is made with, those that the log knows, and those that verdicts give."""
    made = [
        node.args[1].value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Outcome"
        if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str)
    ]
    return {*made, *REMEDIES, Meaning.INVALID.value, Meaning.TOO_LARGE.value}


def test_every_reason_is_named_with_its_remedy() -> None:
    table = ERRORS[ERRORS.index("## Reasons") : ERRORS.index("## Log lines")]
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:dead|dropped) \| .+ \| (.+) \|$", table, re.MULTILINE))

    assert 13 <= len(reasons())
    assert reasons() == set(rows)


PASSED_ON = ""  # the line is made elsewhere, and stands under that function
LINES = {
    "_client.py:_new_event_name": "event names take more than 512 KB together, ",
    "_client.py:_warn_of_waiting": "api.delete_users: calls of … wait in the queue, and make them anew; ",
    "_delivery/connection.py:aclose": "closing the connections raised ",
    "_delivery/dead_letters.py:_undelivered": " not delivered: on_dead is too slow; ",
    "_delivery/dead_letters.py:_deliver": "on_dead raised ",
    "_delivery/handover.py:drop_pending": " dropped on close: ",
    "_delivery/inbox.py:warn_lost": " have not been taken into its loop",
    "_delivery/refusals.py:report_lost": " lost, reason ",
    "_delivery/refusals.py:count_lost": " lost, reason ",
    "_delivery/reporting.py:log_losses": " lost, reason ",
    "_delivery/reporting.py:poll": "nothing is sent, and nothing is lost: ",
    "_delivery/reporting.py:imports": "late events go through the realtime endpoint, ",
    "_delivery/reporting.py:budgets_unknown": " was started again, emptied, or set back; ",
    "_delivery/reporting.py:closing": " left to send, ",
    "_delivery/reporting.py:request": "request: ",
    "_delivery/reporting.py:answer": "answer: ",
    "_delivery/reporting.py:file": "file: ",
    "_delivery/reporting.py:merge": "merge: ",
    "_delivery/reporting.py:wait": "wait: ",
    "_delivery/sender.py:end_with": " has ended the sending; ",
    "_delivery/sender.py:warn_unsent": " was not closed: ",
    "_delivery/shutdown.py:_wait_for_letters": "closing: on_dead has not taken all lost calls yet; ",
    "_delivery/threads.py:take": "a call from a thread was not held: ",
    "_outbox/bug.py:meet": " met a bug of this library (",
    "_outbox/durable.py:_warn": PASSED_ON,
    "_outbox/memory.py:open": "the client is switched off (",
    "_outbox/memory.py:_forgets_keys": " keys of dedupe= are not kept in memory; ",
    "_outbox/writer.py:_tried": PASSED_ON,
    "_outbox/writer.py:work": " answers again",
    "_outbox/writer.py:_write": PASSED_ON,
    "_outbox/writer.py:_read": PASSED_ON,
    "_outbox/writer.py:_warn": PASSED_ON,
    "_userpilot/reserved.py:_found": "identify sets the user property ",
    "parcelvoy/_client.py:_warn_of_like_ids": "two ids that were used differ only by case, ",
    "parcelvoy/_like_ids.py:_compare": PASSED_ON,
    "_outbox/remote_steps.py:_no_room": " takes no calls: ",
    "_outbox/remote_store.py:warn": PASSED_ON,
    "_outbox/remote_store.py:_report_lost": PASSED_ON,
    "_outbox/remote_store.py:close": ": the lease could not be given back (",
    "_outbox/lease.py:lose": ": this process does not send at present, it could not keep the lease",
    "_outbox/lease.py:_resign": ": the event loop has stood still for ",
    "postgres/_connection.py:warn_if_overheard": "its password, and all that is put, may go over the network in the ",
    "postgres/_store.py:_connect": " may lose the last calls when it crashes: ",
    "postgres/_store.py:_forget": " has forgotten lost calls, for their age or their number",
    "redis/_link.py:warn_if_overheard": "its password, and all that is put, go over the network in the clear",
    "redis/_steps.py:_make_step": " has forgotten lost calls, for their age or their number",
    "_outbox/away.py:report_set_back": " came back with older data, or was emptied: ",
    "redis/_store.py:_warn_of_settings": " may throw calls away when its memory is full: ",
    "_outbox/away.py:lost": "calls wait, and cannot be put: ",
    "sqlite/_file.py:pause": " is locked: another process has had it for seconds; ",
    "sqlite/_store.py:_write": " keeps no more lost calls than this, and forgets the oldest; ",
    "sqlite/_store.py:_set_strangers_aside": " that are no calls of ours were set aside",
    "sqlite/_store.py:_read": "damaged rows of ",
    "sqlite/_store.py:_reconcile": " does not have them any more: it is damaged",
    "sqlite/_store.py:lead": " was deleted: this process sends no more; ",
    "sqlite/_repair.py:do": " is damaged (",
}  # fmt: skip
"""Every place in the package that logs, and words of its line."""
MORE = [
    " answers again, and takes calls", " takes calls again", "requests fail, ", " has lost calls: ",
    " has lost more calls: ", "some requests wait: ", " cannot be written: ", "; calls wait meanwhile; ",
    ": this user may not ask which nodes the cluster has; ", "gives an answer that cannot be read",
    " of them cannot be read, and was set aside", ", and is kept as ",
]  # fmt: skip
"""Words of lines that a place logs beside its first one."""
ALWAYS = {"warn", "_warn", "log", "log_line"}  # names of functions that log, and of methods of the log
OF_THE_LOG = {"lost", "count", "state", "always", "over"}


def places_that_log() -> set[str]:
    found: set[str] = set()

    def look(file: str, node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            within = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            if isinstance(child, ast.Call):
                called = child.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if name in ALWAYS or (name in OF_THE_LOG and "_log" in ast.unparse(called)):
                    found.add(f"{file}:{within}")
            look(file, child, within)

    for file, tree in TREES.items():
        if file not in ("_runtime/log.py", "_runtime/outage.py"):
            look(file, tree, "")
    return found


def test_every_place_that_logs_is_known() -> None:
    """A new line needs a row in `errors.md`, and its words here."""
    assert set(LINES) == places_that_log()


@pytest.mark.parametrize("words", sorted({*filter(None, LINES.values()), *MORE}))
def test_a_line_of_the_log_is_named_with_its_remedy(words: str) -> None:
    constants = "\0".join(
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )

    assert words.strip() in ERRORS
    if "…" not in words:
        assert words.strip() in constants, "no line says so any more"


# ── numbers and pictures that must be those of the code ──


def test_the_lines_of_the_log_that_are_shown_are_real() -> None:
    (shown,) = [block.code for block in PAGES["logging"].blocks if block.language == "text"]
    why = "user_id must not be empty or blank"
    rest = Rest(seconds=21.0, pace="600 a minute", requests=201)
    close = Close(
        accepted=400, limit="close_timeout=10", took=10.0, ran_out=True, ended=None, paused=None, failure=None,
        silent=None, rest=rest,
    )  # fmt: skip
    real = [
        loss_line("invalid", why, Losses(1, in_all=1)),
        loss_line("invalid", why, Losses(999, in_all=1000)),
        close_line(close, Losses(201)),
    ]

    lines = shown.splitlines()
    assert [] == [line for line in real if not any(f"userpilot: {line}".startswith(one.rstrip("…")) for one in lines)]
    assert 4 == len(lines)


def test_the_folders_of_the_tower_are_the_folders_there_are() -> None:
    tower = next(block.code for block in PAGES["architecture"].blocks if "_schedule/" in block.code)

    drawn = set(re.findall(r"(?m)(?<![/\w])(_?[a-z]\w*)(?:/| {2,}[A-Z]\w+Client| {2,}everything)", tower))

    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {
        path.stem for path in PACKAGE.glob("_[a-z]*.py")
    }
    assert drawn == there


def test_supervisors_wait_for_longer_than_servers_and_clients_do() -> None:
    text = PAGES["deployment"].text
    table = re.findall(r"^\| (\S+).* \| .*?(\d+)` \| .*?(\d+)\D* \| \D*(\d+)", text, re.MULTILINE)

    waits = {name.strip("`"): (int(server), int(client), int(all)) for name, server, client, all in table}
    assert {"Kubernetes", "docker", "systemd"} == set(waits)
    assert all(server + client + 1 < supervisor for server, client, supervisor in waits.values())
    (pod,) = [block.code for block in PAGES["deployment"].blocks if block.language == "yaml"]
    graceful, supervisor = re.search(r"--timeout-graceful-shutdown=(\d+)", pod), re.search(r"PeriodSeconds: (\d+)", pod)
    assert graceful is not None
    assert supervisor is not None
    assert (10, 30) == (int(graceful[1]), int(supervisor[1]))


def test_contributing_begins_with_the_command_that_a_push_runs() -> None:
    assert all("pip install nox && nox" in page.text for page in (README, CONTRIBUTING))


def test_the_changelog_is_kept_in_the_common_form() -> None:
    """As keepachangelog.com has it: versions, the newest first, and below them kinds of changes."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert "[Unreleased]" == versions[0]
    assert all(re.fullmatch(r"\[[\d.]+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
