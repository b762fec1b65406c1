"""What each process of a running system costs: CPU time and memory, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from loadtests.plan import Process

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PARENT, _UTIME, _CUTIME_END, _RSS = 1, 11, 15, 21
_MIB: Final = 1 << 20


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One role with its child processes: CPU seconds since their start, memory now."""

    cpu_s: float = 0
    rss_mib: float = 0


def usage_by_role(processes: Iterable[Process]) -> dict[str, Usage]:
    """CPU and memory by role; a process that is gone counts as nothing."""
    table = _table()
    children: dict[int, list[int]] = {}
    for pid, fields in table.items():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    usage: dict[str, Usage] = {}
    for process in processes:
        before = usage.get(process.role, Usage())
        cpu, rss = _tree(process.pid, table, children)
        usage[process.role] = Usage(cpu_s=before.cpu_s + cpu, rss_mib=before.rss_mib + rss)
    return usage


def kafka_flavour(processes: Iterable[Process]) -> str:
    """Which broker runs here: Apache Kafka (a JVM), tansu, or one given by its URL."""
    for process in processes:
        if process.role == "kafka":
            try:
                name = Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                continue
            return "Apache Kafka" if name == "java" else name
    return "given by its URL"


def _tree(pid: int, table: dict[int, list[str]], children: dict[int, list[int]]) -> tuple[float, float]:
    fields = table.get(pid)
    if fields is None:
        return 0.0, 0.0
    cpu = sum(map(int, fields[_UTIME:_CUTIME_END])) / _TICKS
    rss = int(fields[_RSS]) * _PAGE / _MIB
    for child in children.get(pid, ()):
        more_cpu, more_rss = _tree(child, table, children)
        cpu, rss = cpu + more_cpu, rss + more_rss
    return cpu, rss


def _table() -> dict[int, list[str]]:
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            table[int(entry.name)] = text.rpartition(")")[2].split()
    return table
