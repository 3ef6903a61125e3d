"""What users of notebooks write: cells with `await`, each of them a task of its own in one loop that runs on."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
import types
import unittest
from typing import Any

from emulated import KINDS, Scene


class Notebook:
    """A kernel: its loop runs in a thread, and it runs one cell after the other in one namespace."""

    def __init__(self, **names: Any) -> None:
        self.names = names
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, cell: str) -> None:
        """As IPython runs it: compiled with await allowed at the top; a cell may also fail."""
        code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        asyncio.run_coroutine_threadsafe(self._evaluate(code), self._loop).result(30)

    async def _evaluate(self, code: types.CodeType) -> None:
        result = types.FunctionType(code, self.names)()
        if inspect.isawaitable(result):
            await result

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class Cells(unittest.TestCase):
    def setUp(self) -> None:
        self.notebook = Notebook()
        self.addCleanup(self.notebook.close)

    def run_cells(self, kind: str, *cells: str) -> None:
        scene = Scene(kind)
        self.notebook.names.update(scene=scene, client=scene.client, asyncio=asyncio)
        for cell in cells:
            self.notebook.run(cell)
        scene.check()

    def test_started_in_one_used_in_others_and_closed_in_another(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                self.run_cells(
                    kind,
                    "await client.start()",
                    "await scene.tell(3)",
                    "await scene.flush()",
                    "await scene.tell(20)",
                    "await client.aclose()",
                )

    def test_entered_in_one_and_left_in_another(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                self.run_cells(
                    kind,
                    "client = await client.__aenter__()",
                    "await scene.tell(20)",
                    "await client.__aexit__(None, None, None)",
                )

    def test_a_cell_that_fails_or_is_interrupted_harms_no_later_one(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                self.run_cells(
                    kind,
                    "await client.start()",
                    "try:\n    await scene.tell(2)\n    1 / 0\nexcept ZeroDivisionError:\n    pass",
                    "task = asyncio.create_task(scene.tell(0)); task.cancel()\n"
                    "try:\n    await task\nexcept asyncio.CancelledError:\n    pass",
                    "await scene.tell(2)",
                    "await scene.flush()",
                    "await client.aclose()",
                )

    def test_calls_of_a_task_that_a_cell_has_left_behind_are_delivered(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                self.run_cells(
                    kind,
                    "await client.start()",
                    "task = asyncio.create_task(scene.tell(5))",
                    "await task",
                    "await client.aclose()",
                )

    def test_the_next_client_works_after_the_last_one_was_closed(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                for _ in range(3):
                    self.run_cells(kind, "await client.start()", "await scene.tell(3)", "await client.aclose()")


class CellsOnALoopThatStops(unittest.TestCase):
    """As IPython's terminal: the loop runs only while a cell does."""

    def test_what_a_cell_left_waiting_is_delivered_while_later_ones_run(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                scene = Scene(kind)
                with asyncio.Runner() as runner:
                    loop = runner.get_loop()
                    loop.run_until_complete(scene.client.start())
                    for _ in range(4):
                        loop.run_until_complete(scene.tell(5))
                    loop.run_until_complete(scene.client.aclose())
                scene.check()
