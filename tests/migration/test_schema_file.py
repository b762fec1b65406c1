"""migrations/schema.sql is for reading: it says what the migrations lead to."""

import asyncio
import os
import re
from importlib import resources
from pathlib import Path

from embedded.postgres import Postgres

REMEDY = "run `UPDATE_SCHEMA=1 make test ARGS=tests/migration/test_schema_file.py`"


async def test_the_migrations_lead_to_the_schema_file(postgres: Postgres, database_url: str) -> None:
    dumped = normalised(await dump(postgres, database_url))
    file = Path(str(resources.files("migrations"))) / "schema.sql"
    if os.environ.get("UPDATE_SCHEMA") == "1":
        file.write_text(dumped, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == dumped, f"migrations/schema.sql is not what they lead to: {REMEDY}"


async def dump(postgres: Postgres, url: str) -> str:
    """The schema as pg_dump writes it, without the partitions of single days."""
    program = postgres._programs / "pg_dump"
    options = ("--schema-only", "--no-owner", "--no-privileges", "--exclude-table=*_[0-9]*")
    process = await asyncio.create_subprocess_exec(program, *options, url, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def normalised(text: str) -> str:
    """Without comments, session settings and what differs from one dump to the next."""
    lines = [line for line in text.splitlines() if not re.match(r"--|SET |SELECT pg_catalog|\\", line)]
    body = re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()
    return f"-- What the migrations lead to; made from them, for reading.\n\n{body}\n"
