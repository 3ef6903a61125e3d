"""Processes that a demonstration starts: they get what a program needs, and nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import anyio.abc

# By name, not by beginning: a variable such as PYTHON_INDEX_TOKEN is no matter of Python's. What a demonstration sends
# goes to servers of its own, and all that a child is to know stands in its arguments.
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "TEMP", "TMP",
    "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES",
    "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS",
    "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
)  # fmt: skip


def environment_of_a_child(of_ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of an environment that a child process gets: no key, no password in a URL, no proxy."""
    return {name: of_ours[name] for name in INHERITED if name in of_ours}


async def start(
    command: Sequence[str], *, listened_to: bool, stderr: int | None = None, **owner: Any
) -> anyio.abc.Process:
    """A process in a group that a Ctrl-C does not reach; its stdout is there to be read if it is ``listened_to``.

    ``owner``: the user and the folder that it gets instead of ours, in the words of `subprocess.Popen`.
    """
    return await anyio.open_process(
        command, stdin=DEVNULL, stdout=PIPE if listened_to else DEVNULL, stderr=stderr,
        start_new_session=True, env=environment_of_a_child(), **owner,
    )  # fmt: skip
