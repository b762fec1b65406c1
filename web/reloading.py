"""A new rules file while the gateway runs: taken whole, or the old one stays and a metric says so."""

import asyncio
from http import HTTPStatus

import msgspec
import structlog
from litestar import Response, post
from litestar.datastructures import State

from streams import metrics
from streams.settings import Settings
from web.configuration import Announcer, RulesAwayError, RulesError, read_rules
from web.principal import NEEDS, Scope
from web.problems import FieldError, PartAwayError, Problem, respond

log = structlog.get_logger(__name__)


class Reloaded(msgspec.Struct, frozen=True):
    """The version under which the rules file is kept now; the same as before if it says nothing new."""

    version: int


class Reloader:
    """Reads the rules file anew; one at a time."""

    def __init__(self, settings: Settings, announcer: Announcer) -> None:
        self._settings = settings
        self._announcer = announcer
        self._one = asyncio.Lock()

    async def reload(self) -> int:
        """Read, check, store; the version.

        Raises:
            RulesError: there is no file, or it cannot be used.
            RulesAwayError: Postgres is away.
        """
        async with self._one:
            try:
                rules = await asyncio.to_thread(read_rules, self._settings)
                if rules is None:
                    raise RulesError("INCIDENTS_CONFIG names no file")  # noqa: TRY301 - the metric is for it too
                version = await self._announcer.adopt(rules)
            except (RulesError, RulesAwayError) as error:
                metrics.config_last_reload_successful.set(0)
                log.error("configuration_not_reloaded", reason=str(error))  # noqa: TRY400 - it says all
                raise
        loaded()
        log.info("configuration_reloaded", version=version)
        return version

    async def on_signal(self) -> None:
        """The same for SIGHUP, which has nobody to answer to."""
        try:
            await self.reload()
        except (RulesError, RulesAwayError):
            return


def loaded() -> None:
    """The rules file was read and is good."""
    metrics.config_last_reload_successful.set(1)
    metrics.config_last_reload_success_timestamp_seconds.set_to_current_time()


@post("/-/reload", status_code=HTTPStatus.OK, summary="Read the rules file anew", tags=["configuration"],
      opt={NEEDS: Scope.ADMIN})  # fmt: skip
async def reload(state: State) -> Response[Reloaded] | Response[Problem]:
    """The new file is taken whole; if anything is wrong with it, the old rules stay and the answer says what (400)."""
    reloader: Reloader = state.reloader
    try:
        return Response(Reloaded(await reloader.reload()))
    except RulesAwayError as error:
        raise PartAwayError(str(error)) from error
    except RulesError as error:
        found = [FieldError(one.field, str(one)) for one in error.found]
        title = "The rules file cannot be used"
        return respond(Problem(title=title, status=HTTPStatus.BAD_REQUEST, detail=str(error), errors=found))
