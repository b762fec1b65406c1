"""Values of tables say their version, and one that this program does not know is refused by its name."""

from typing import Any

import msgspec
import pytest

from agents.alert_partition import ALERT_TABLE, PULSES, RECENT, RecentChunk
from agents.group_partition import GROUPS, MEMBERS
from agents.loading import VERSIONS
from agents.rules.dedup import AlertState, Pulse
from agents.rules.group_state import GroupState, Member
from streams.codec import UnknownVersionError, encode, refuse_versions, version_of
from streams.tables import FIELDS, TABLES_OF

RECORDS: dict[str, Any] = {
    ALERT_TABLE: AlertState, PULSES: Pulse, RECENT: RecentChunk, GROUPS: GroupState, MEMBERS: Member,
}  # fmt: skip


def test_every_table_of_records_has_a_version() -> None:
    names = {name for names in TABLES_OF.values() for name in names}
    assert set(VERSIONS) == set(RECORDS) == names - {"rules"}  # whose few values are read, and so judged, at once


@pytest.mark.parametrize("table", VERSIONS)
def test_the_version_is_the_records_tag(table: str) -> None:
    info = msgspec.inspect.type_info(RECORDS[table])
    assert isinstance(info, msgspec.inspect.StructType)
    assert (info.tag, info.array_like) == (VERSIONS[table], True)


@pytest.mark.parametrize("table", VERSIONS)
def test_who_shows_a_value_knows_its_fields(table: str) -> None:
    assert RECORDS[table].__struct_fields__[: len(FIELDS[table])] == FIELDS[table]


@pytest.mark.parametrize("fields", [0, 1, 14, 15, 40])
@pytest.mark.parametrize("tag", [0, 1, 2, 127])
def test_it_is_read_without_decoding(fields: int, tag: int) -> None:
    assert version_of(encode([tag, *range(fields)])) == tag


@pytest.mark.parametrize("value", [b"", b"\x90", encode(7), encode({"a": 1}), encode([]), encode(["a"]), encode([1.5])])
def test_bytes_without_a_version_have_none(value: bytes) -> None:
    assert version_of(value) == -1


def test_another_version_is_refused_by_its_name() -> None:
    refuse_versions("pulses", {"a": encode([1, "x"])}, 1)
    with pytest.raises(UnknownVersionError, match="table pulses: the value of b is of version 2, this program reads 1"):
        refuse_versions("pulses", {"a": encode([1]), "b": encode([2, "later"])}, 1)
