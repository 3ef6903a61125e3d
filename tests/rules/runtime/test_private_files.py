"""How files of ours are opened: a name in a folder that others may write proves nothing."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from userpilot_async._runtime.private_files import (
    UnsafeFile,
    check_links,
    create_private,
    is_there,
    make_folders,
    open_or_create,
    open_own,
    open_private,
    rewrite,
)

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 12_345

Opener = Callable[[Path], int]
OPENERS: list[Opener] = [open_own, open_private, open_or_create, rewrite]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ours"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize("opened", OPENERS)
def test_a_link_is_not_followed(path: Path, victim: Path, opened: Opener) -> None:
    path.symlink_to(victim)

    with pytest.raises(UnsafeFile, match="ours is a symbolic link, and must be a regular file: take it away"):
        opened(path)
    assert ("precious", 0o644) == (victim.read_text(), mode_of(victim))


@pytest.mark.parametrize("opened", OPENERS)
def test_nothing_is_made_behind_a_link_to_nowhere(path: Path, victim: Path, opened: Opener) -> None:
    path.symlink_to(victim.with_name("new"))

    with pytest.raises(UnsafeFile, match="ours is a symbolic link"):
        opened(path)
    assert ["victim"] == os.listdir(victim.parent)


@pytest.mark.parametrize("opened", OPENERS)
def test_a_file_with_another_name_is_not_opened(path: Path, victim: Path, opened: Opener) -> None:
    os.link(victim, path)

    with pytest.raises(UnsafeFile, match=r"ours has 2 names \(hard links\)"):
        opened(path)
    assert ("precious", 0o644) == (victim.read_text(), mode_of(victim))


@pytest.mark.parametrize("opened", OPENERS)
@pytest.mark.parametrize(
    ("put", "kind"), [(os.mkfifo, "a FIFO"), (os.mkdir, "a directory"), (socket_at, "a socket")],
    ids=["FIFO", "directory", "socket"],
)  # fmt: skip
def test_what_is_no_file_is_refused_at_once(
    path: Path, opened: Opener, put: Callable[[Path], object], kind: str
) -> None:
    put(path)

    with pytest.raises(UnsafeFile, match=f"ours is {kind}, and must be a regular file"):
        opened(path)


@pytest.mark.parametrize("opened", OPENERS)
def test_a_device_is_refused(opened: Opener) -> None:
    with pytest.raises(UnsafeFile, match="null is a device"):
        opened(Path(os.devnull))


@ONLY_ROOT
@pytest.mark.parametrize("opened", OPENERS)
def test_somebody_elses_file_is_refused_and_whose_it_is_said(path: Path, opened: Opener) -> None:
    path.touch(0o666)
    os.chown(path, STRANGER, STRANGER)

    with pytest.raises(UnsafeFile, match="ours belongs to uid 12345, and this process runs as uid 0: run it as that"):
        opened(path)


@pytest.mark.parametrize("opened", [open_private, open_or_create, rewrite])
@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o666, 0o600), (0o600, 0o600), (0o640, 0o600)])
def test_a_file_that_others_could_read_is_only_its_owners_from_then_on(
    path: Path, opened: Opener, before: int, after: int
) -> None:
    path.touch()
    path.chmod(before)
    os.close(opened(path))

    assert after == mode_of(path)


def test_a_file_that_is_read_only_stays_so(path: Path) -> None:
    path.touch()
    path.chmod(0o444)
    os.close(open_private(path))

    assert 0o400 == mode_of(path)


def test_a_look_changes_no_mode(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    os.close(open_own(path))

    assert 0o644 == mode_of(path)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_new_file_is_its_owners_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        os.close(create_private(path))
    finally:
        os.umask(before)

    assert 0o600 == mode_of(path)


def test_new_folders_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folders(tmp_path / "a" / "b")
        make_folders(tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert {0o700} == {mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")}


def refuses(descriptor: int, mode: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize(
    ("fchmod", "why"), [(refuses, "Operation not permitted"), (lambda *_: None, "its file system keeps no modes")],
    ids=["refuses", "does nothing"],
)  # fmt: skip
def test_a_file_system_without_modes_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, fchmod: Callable[[int, int], None], why: str
) -> None:
    path.touch()
    path.chmod(0o755)
    monkeypatch.setattr(os, "fchmod", fchmod)

    with pytest.raises(UnsafeFile, match=rf"is open to others \(mode 0755\), which cannot be changed \({why}\)"):
        open_private(path)


def test_a_file_that_is_refused_when_it_is_new_is_taken_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchmod", refuses)
    monkeypatch.setattr(
        "userpilot_async._runtime.private_files.MODE", 0o604
    )  # what such a file system would make of it

    with pytest.raises(UnsafeFile, match="is open to others"):
        before = os.umask(0o200)
        try:
            create_private(path)
        finally:
            os.umask(before)
    assert not path.exists()


def test_a_file_that_is_only_looked_for_is_its_owners_from_then_on(path: Path) -> None:
    path.touch()
    path.chmod(0o644)

    assert is_there(path)
    assert 0o600 == mode_of(path)


def test_a_new_file_takes_no_name_that_is_taken(path: Path) -> None:
    path.write_text("what somebody has put there, to be taken for ours")

    with pytest.raises(FileExistsError):
        create_private(path)
    assert "what somebody has put there, to be taken for ours" == path.read_text()


def test_what_lies_there_is_told_from_what_does_not(path: Path) -> None:
    assert not is_there(path)
    path.touch()
    assert is_there(path)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(UnsafeFile):
        is_there(path)


# ── links that somebody has named ──


@pytest.fixture
def link(tmp_path: Path, victim: Path) -> Path:
    link = tmp_path / "folder" / "link"
    link.parent.mkdir(0o755)
    link.symlink_to(victim)
    return link


def test_a_link_of_ones_own_in_a_folder_of_ones_own_may_be_named(link: Path) -> None:
    check_links(link)


def test_folders_may_be_links(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "volume").symlink_to(victim.parent)
    check_links(tmp_path / "volume" / victim.name)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_link_in_a_folder_that_others_may_write_is_refused(link: Path, mode: int) -> None:
    link.parent.chmod(mode)

    with pytest.raises(UnsafeFile, match="link is a symbolic link in a folder in which others may write: name the"):
        check_links(link)


@ONLY_ROOT
def test_somebody_elses_link_is_refused(link: Path) -> None:
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)

    with pytest.raises(UnsafeFile, match="link is a symbolic link in a folder"):
        check_links(link)


def test_each_link_on_the_way_counts(tmp_path: Path, link: Path) -> None:
    link.parent.chmod(0o777)
    (tmp_path / "first").symlink_to(link)

    with pytest.raises(UnsafeFile, match="link is a symbolic link in a folder"):
        check_links(tmp_path / "first")


@pytest.mark.parametrize("target", ["nowhere", "ours"])
def test_a_link_to_nowhere_or_to_itself_is_refused(path: Path, target: str) -> None:
    path.symlink_to(target)

    with pytest.raises(UnsafeFile, match="ours is a link to a file that does not exist: name the file itself"):
        check_links(path)
