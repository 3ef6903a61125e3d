"""What lies where an outbox's files should be: others may write in the folder, and people name the wrong file."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from userpilot_async import OutboxError
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.owner import Claim
from userpilot_async._runtime.private_files import UnsafeFile
from userpilot_async.imports._journal import Journal
from userpilot_async.sqlite._admin import SQLiteAdmin
from userpilot_async.sqlite._admin import opened as opened_file
from userpilot_async.sqlite._locks import Lock

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 12_345
BESIDE = [".lock", ".lease", ".ballast", "-wal", "-shm", "-journal"]

Tree = dict[str, tuple[str, bytes]]


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def tree(folder: Path) -> Tree:
    """What is in a folder: modes, and contents."""
    return {
        one.name: (stat.filemode(one.lstat().st_mode), one.read_bytes() if one.is_file() else b"")
        for one in folder.iterdir()
    }


def modes(folder: Path) -> set[str]:
    return {oct(stat.S_IMODE(one.stat().st_mode)) for one in folder.iterdir()}


class Opened(InlineOutbox):
    """An outbox that raises what its client hears of a call that it does not take."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durability="process")
        self.client = Client()
        open_now(self, self.client.opening())

    def put_one(self) -> None:
        self.put("track", "u1", b"{}", 2, 0.0)
        if self.client.not_held:
            raise self.client.not_held.pop()[-1]


def opened(path: Path) -> Opened:
    return Opened(path)


def waiting(path: Path) -> int:
    return SQLiteAdmin(path).inspect().account.waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shared" / "events.db"
    path.parent.mkdir()
    path.parent.chmod(0o777)
    return path


@pytest.fixture
def filled(path: Path) -> Path:
    """A closed outbox with a call."""
    outbox = opened(path)
    outbox.put_one()
    at_once(outbox.aclose())
    return path


def strangers(path: Path, victim: Path) -> None:
    path.touch(0o666)
    os.chown(path, STRANGER, STRANGER)


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, victim: path.symlink_to(victim),
    "link to nowhere": lambda path, victim: path.symlink_to(victim.with_name("new")),
    "other name": lambda path, victim: os.link(victim, path),
    "FIFO": lambda path, victim: os.mkfifo(path),
    "directory": lambda path, victim: path.mkdir(),
}
LOOKS: list[Callable[[Path], object]] = [
    lambda path: SQLiteAdmin(path).inspect(),
    lambda path: SQLiteAdmin(path).dead_letters(),
    lambda path: SQLiteAdmin(path).retry(),
]
EACH = [*TRAPS, pytest.param("stranger's", marks=ONLY_ROOT)]


def trap(path: Path, victim: Path, what: str) -> None:
    path.unlink(missing_ok=True)
    TRAPS.get(what, strangers)(path, victim)


# ── traps ──


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize("what", EACH)
def test_a_trap_beside_a_file_is_refused_by_name_and_leads_nowhere(
    filled: Path, victim: Path, suffix: str, what: str
) -> None:
    trap(beside(filled, suffix), victim, what)
    before, content = tree(victim.parent), filled.read_bytes()

    with pytest.raises(OutboxError, match=rf"events\.db .*events\.db{suffix} (is|has|belongs)"):
        opened(filled)
    assert before == tree(victim.parent)
    assert content == filled.read_bytes()


@pytest.mark.parametrize("suffix", BESIDE)
def test_a_trap_where_a_new_file_would_be_made_is_refused(path: Path, victim: Path, suffix: str) -> None:
    trap(beside(path, suffix), victim, "link to nowhere")

    with pytest.raises(OutboxError, match=rf"events\.db{suffix} is a symbolic link"):
        opened(path)
    assert ["victim"] == os.listdir(victim.parent)


@pytest.mark.parametrize("suffix", BESIDE)
def test_people_who_look_step_into_no_trap_either(filled: Path, victim: Path, suffix: str) -> None:
    trap(beside(filled, suffix), victim, "link")
    before = tree(victim.parent)

    with pytest.raises(OutboxError, match=rf"events\.db{suffix} is a symbolic link"):
        SQLiteAdmin(filled).inspect()
    assert before == tree(victim.parent)


@pytest.mark.parametrize("what", EACH)
def test_a_trap_in_place_of_the_file_is_refused_with_nothing_beside_it(path: Path, victim: Path, what: str) -> None:
    trap(path, victim, what)
    before, around = tree(victim.parent), tree(path.parent)

    for use in (opened, *LOOKS):
        with pytest.raises(OutboxError, match=r"events\.db"):
            use(path)
    assert before == tree(victim.parent)
    assert around == tree(path.parent)


@ONLY_ROOT
@pytest.mark.parametrize("use", [opened, *LOOKS])
def test_somebody_elses_outbox_is_refused_and_whose_it_is_said(filled: Path, use: Callable[[Path], object]) -> None:
    for one in filled.parent.iterdir():
        os.chown(one, STRANGER, STRANGER)
    before = tree(filled.parent)

    with pytest.raises(OutboxError, match="belongs to uid 12345, and this process runs as uid 0: run it as that user"):
        use(filled)
    assert before == tree(filled.parent)


def test_another_name_of_an_outbox_is_refused_before_anything_is_made_beside_it(filled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    os.link(filled, other)

    with pytest.raises(OutboxError, match=r"other\.db has 2 names \(hard links\)"):
        opened(other)
    assert {"shared", "other.db"} == set(os.listdir(tmp_path))


def test_a_trap_that_is_set_while_a_client_is_open_keeps_calls_out(filled: Path, victim: Path) -> None:
    outbox = opened(filled)
    trap(beside(filled, ".ballast"), victim, "link")

    with pytest.raises(OutboxError, match=r"takes no calls: events\.db\.ballast is a symbolic link"):
        outbox.put_one()
    beside(filled, ".ballast").unlink()
    outbox.put_one()
    at_once(outbox.aclose())

    assert 2 == waiting(filled)


@pytest.mark.parametrize("what", ["link", "other name"])
def test_a_lock_whose_file_is_exchanged_while_it_is_held_is_given_up(tmp_path: Path, victim: Path, what: str) -> None:
    lock = Lock(tmp_path / "lock")
    lock.try_take()
    trap(lock.path, victim, what)

    assert not lock.still_held()
    with pytest.raises(UnsafeFile, match=r"lock (is|has)"):
        lock.try_take()
    lock.close()


def test_a_lock_whose_file_was_deleted_is_not_ours_any_more(tmp_path: Path) -> None:
    """Who comes next locks a new file under this name, and two processes would send."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.try_take()
    first.path.unlink()

    assert second.try_take()
    assert not first.try_take()
    assert (False, True) == (first.held, second.held)
    second.close()


def test_a_lock_that_is_free_at_last_in_a_file_that_was_deleted_meanwhile_is_not_taken(tmp_path: Path) -> None:
    before, waiting, other = (Lock(tmp_path / "lock") for _ in range(3))
    before.try_take()
    assert not waiting.try_take()
    before.path.unlink()
    other.try_take()
    before.release()

    assert not waiting.try_take()
    assert (False, True) == (waiting.held, other.held)
    for lock in (before, other):
        lock.close()


def test_a_link_to_a_file_that_is_put_in_its_place_while_it_is_open_is_not_followed(
    filled: Path, tmp_path: Path
) -> None:
    outbox = opened(filled)
    filled.rename(tmp_path / "moved.db")
    filled.symlink_to(tmp_path / "moved.db")

    with pytest.raises(OutboxError, match=r"cannot be written: events\.db is a symbolic link"):
        outbox.put_one()
    at_once(outbox.aclose())


# ── a repair ──


def damage(path: Path) -> None:
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])


@pytest.mark.parametrize("name", [".mending", ".new", ".blank", ".mending-wal"])
def test_a_repair_steps_into_no_trap(filled: Path, victim: Path, name: str) -> None:
    trap(beside(filled, name), victim, "link")
    damage(filled)
    at_once(opened(filled).aclose())

    assert "precious" == victim.read_text()
    assert 1 == waiting(filled)


def test_what_is_kept_of_a_damaged_file_is_not_written_where_a_link_leads(filled: Path, victim: Path) -> None:
    trap(beside(filled, ".damaged-1"), victim, "link to nowhere")
    damage(filled)
    at_once(opened(filled).aclose())

    assert ["victim"] == os.listdir(victim.parent)
    assert beside(filled, ".damaged-2").is_file()
    assert 1 == waiting(filled)


def test_a_link_is_not_taken_for_a_repair_that_was_cut_short(filled: Path, victim: Path) -> None:
    """What lies beside it would be taken for the file's log."""
    trap(beside(filled, ".damaged-1"), filled, "link")
    beside(filled, ".damaged-1-wal").write_bytes(b"somebody's")
    at_once(opened(filled).aclose())

    assert b"somebody's" == beside(filled, ".damaged-1-wal").read_bytes()
    assert 1 == waiting(filled)


@pytest.mark.parametrize("use", [waiting, lambda path: at_once(opened(path).aclose())])
def test_a_repair_that_was_cut_short_is_no_second_name(filled: Path, use: Callable[[Path], object]) -> None:
    os.link(filled, beside(filled, ".damaged-1"))
    use(filled)

    assert 1 == waiting(filled)


# ── modes ──


@pytest.fixture
def restored(filled: Path) -> Path:
    """An outbox whose client was killed, so that its log lies beside it, and all of which others may read."""
    killed = opened(filled)
    killed.put_one()
    killed.die()
    for suffix in (".damaged-1", ".damaged-1-wal"):
        beside(filled, suffix).touch()
    for one in filled.parent.iterdir():
        one.chmod(0o644)
    return filled


def test_files_that_were_restored_open_to_others_are_their_owners_alone_from_then_on(restored: Path) -> None:
    outbox = opened(restored)

    assert {"events.db", "events.db-wal", "events.db-shm", "events.db.damaged-1"} <= set(os.listdir(restored.parent))
    assert {"0o600"} == modes(restored.parent)
    at_once(outbox.aclose())
    assert 2 == waiting(restored)


def test_who_only_looks_leaves_nothing_open_to_others_of_what_has_calls_in_it(restored: Path) -> None:
    with opened_file(restored, as_it_is=True):
        seen = {suffix: stat.S_IMODE(beside(restored, suffix).stat().st_mode) for suffix in ("", "-wal", "-shm")}

    assert {"": 0o600, "-wal": 0o600, "-shm": 0o600} == seen


def test_an_empty_file_that_is_open_to_others_is_closed_to_them_before_it_is_an_outbox(path: Path) -> None:
    path.touch()
    path.chmod(0o666)
    before = os.umask(0)
    try:
        outbox = opened(path)
        outbox.put_one()
    finally:
        os.umask(before)

    assert {"0o600"} == modes(path.parent)
    at_once(outbox.aclose())


def test_a_file_system_that_keeps_no_modes_is_refused_before_sqlite_opens_the_file(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.chmod(0o755)
    monkeypatch.setattr(os, "fchmod", lambda *_: None)

    with pytest.raises(OutboxError, match=r"events\.db is open to others \(mode 0755\), which cannot be changed"):
        opened(filled)
    assert not beside(filled, "-wal").exists()


@pytest.mark.parametrize("content", [b"", bytes(8192)])
def test_a_file_that_a_client_was_making_when_the_power_went_is_one_that_the_next_one_opens(
    path: Path, content: bytes
) -> None:
    """By its rollback journal, SQLite makes of it what there was before: nothing."""
    # Records, nonce, pages before, bytes of a sector, of a page: sqlite.org/fileformat.html, 3, read 2026-11.
    numbers = (0, 0, 0, 512, 4096)
    log = bytes.fromhex("d9d505f920a163d7") + b"".join(number.to_bytes(4, "big") for number in numbers)
    beside(path, "-journal").write_bytes(log.ljust(512, b"\0"))
    beside(path, ".lock").touch()
    path.write_bytes(content)
    outbox = opened(path)
    outbox.put_one()
    at_once(outbox.aclose())

    assert 1 == waiting(path)


# ── named by mistake ──


def a_text(path: Path) -> None:
    path.write_text("my notes\n" * 100)


def a_short_text(path: Path) -> None:
    path.write_text("a,b\n")


def a_picture(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 10)


def a_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE theirs (said TEXT)")


def a_journal(path: Path) -> None:
    Journal(path).close()


def locked_by_an_older_version(path: Path) -> None:
    a_text(path)
    beside(path, ".lock").touch(0o600)


USES: dict[str, Callable[[Path], object]] = {
    "client": opened,
    "show": lambda path: SQLiteAdmin(path).inspect(),
    "dead": lambda path: SQLiteAdmin(path).dead_letters(),
    "retry": lambda path: SQLiteAdmin(path).retry(),
    "rebind": lambda path: SQLiteAdmin(path).rebind(Claim("a server", lambda salt: "")),
    "purge": lambda path: SQLiteAdmin(path).purge(Subject("user", "u1")),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "make", [a_text, a_short_text, a_picture, a_database, a_journal, locked_by_an_older_version],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_file_named_by_mistake_stays_as_it_was_with_nothing_beside_it(
    path: Path, use: str, make: Callable[[Path], None]
) -> None:
    make(path)
    path.chmod(0o644)
    before = tree(path.parent)

    with pytest.raises(OutboxError, match=r"events\.db"):
        USES[use](path)
    assert before == tree(path.parent)


@pytest.mark.parametrize("use", sorted(set(USES) - {"client"}))
def test_an_empty_file_may_be_anybodys_so_nothing_is_made_beside_it(path: Path, use: str) -> None:
    path.touch(0o644)
    before = tree(path.parent)

    if use in ("show", "dead"):
        USES[use](path)
    else:
        with pytest.raises(OutboxError, match=r"events\.db is empty: no client has made it an outbox yet"):
            USES[use](path)
    assert before == tree(path.parent)
