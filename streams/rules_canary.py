"""The canary: an alert that goes the whole way to see whether the way is open, and reaches nobody.

It has a route and a receiver of its own beside every rules file, named by what no rules file can say.
"""

from datetime import timedelta
from typing import Final

from streams.rules_receivers import Integration, Receiver
from streams.rules_routes import Route

ALERT: Final = "IncidentsCanary"
LABEL: Final = "canary"
CHANNEL: Final = "canary"
NAME: Final = "(canary)"

ROUTE: Final = Route(
    id=NAME,
    receiver=NAME,
    group_by=("alertname", LABEL),
    group_wait=timedelta(0),
    group_interval=timedelta(minutes=1),
    repeat_interval=timedelta(hours=4),
    matchers=(),
    continue_=False,
    routes=(),
)
RECEIVER: Final = Receiver(NAME, (Integration(CHANNEL, 0, "canary:", send_resolved=False, options={}),))
