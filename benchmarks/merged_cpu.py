"""CPU seconds and jobs for a million identifies of ten thousand users."""

from benchmarks.bulk_cpu import MERGED_NAME as NAME
from benchmarks.bulk_cpu import run_merged as run

__all__ = ["NAME", "run"]
