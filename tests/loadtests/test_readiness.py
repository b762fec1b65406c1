import asyncio

from embedded.ports import free_port
from loadtests.plan import Process
from loadtests.readiness import ReadinessReader
from streams.observe import Health, serve
from streams.settings import Settings


async def test_a_role_that_answers_is_timed_and_one_that_does_not_counts_as_the_longest_wait() -> None:
    async with serve(Settings(), Health("worker")) as port:
        reader = ReadinessReader((
            Process(role="worker", pid=1, url=f"http://127.0.0.1:{port}"),
            Process(role="gateway", pid=2, url=f"http://127.0.0.1:{free_port()}"),
            Process(role="redis", pid=3),
        ))  # fmt: skip
        running = asyncio.create_task(reader.run())
        await asyncio.sleep(0)
        reader.stop()
        took = await running
    assert took.keys() == {"worker", "gateway"}
    assert 0 < took["worker"]["p99"] < 5000
    assert took["gateway"]["max"] == 5000


async def test_without_roles_nothing_is_asked() -> None:
    reader = ReadinessReader(())
    assert await reader.run() == {}
