"""What lies where an outbox's files should be: others may write in the folder, and people mistake one file for another."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.contract.inline import Client, at_once
from userpilot_async import OutboxError
from userpilot_async.sqlite import _salvage
from userpilot_async.sqlite._file import BALLAST, File
