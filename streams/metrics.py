"""Every metric of every role, with its label names and the closed lists of their values.

Series with closed values exist from the start at zero, so that a rate over them
never begins with a gap.
"""

from collections.abc import Iterable
from itertools import product
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from streams.records import IncidentStatus, Severity, Verdict
from streams.rules_jobs import Action
from streams.topics import ALERTS, DEAD_LETTERS, INPUTS, TASKS
from streams.trace_context import current, trace_id

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

SEVERITIES: Final = tuple(Severity)
ACTIVE_STATUSES: Final = (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED)
AGENTS: Final = ("dedup", "incidents")
STEP_PARTS: Final = ("decode", "decide", "postgres", "produce", "redis", "ack", "whole")
TABLES: Final = ("alerts", "pulses", "recent", "groups", "members", "rules")
TOPIC_NAMES: Final = (ALERTS, INPUTS, TASKS, DEAD_LETTERS)
INGEST_ROUTES: Final = ("/api/v1/alerts", "/api/v2/alerts")
INGEST_CODES: Final = ("200", "202", "400", "403", "413", "415", "422", "429", "500", "503")
INTAKE_VIAS: Final = ("http", "alertmanager", "amqp")
INTAKE_RESULTS: Final = ("accepted", "rejected")
AMQP_RESULTS: Final = ("acked", "requeued", "dead_lettered")
PRODUCE_RESULTS: Final = ("confirmed", "timeout", "failed")
FALLBACK_RESULTS: Final = ("confirmed", "failed")
INCIDENT_EVENTS: Final = (
    "opened", "reopened", "resolved", "severity", "flapping", "acknowledged", "unacknowledged", "assigned", "comment",
    "snoozed", "snooze ended", "edited", "link added", "merged", "split", "notice made", "notice sent", "notice failed",
)  # fmt: skip
NOTIFICATION_OUTCOMES: Final = ("sent", "retry", "failed", "held", "digested")
CHANNELS: Final = (
    "webhook", "email", "slack", "pagerduty", "opsgenie", "victorops", "msteams", "msteamsv2", "telegram", "pushover",
    "discord", "webex", "mattermost", "rocketchat", "incidentio", "amqp", "canary",
)  # fmt: skip
DEAD_LETTER_SOURCES: Final = ("http", "amqp", "kafka", "agent")
PARTS: Final = ("kafka", "rabbitmq", "redis", "postgres")
JOB_OUTCOMES: Final = ("succeeded", "failed", "cancelled", "retried", "given_back", "lost", "unknown")
BUFFERS: Final = ("dedup", "incidents", "kafka", "amqp", "bodies", "notices")
POSTGRES_TABLES: Final = (
    "alerts", "verdicts", "groups", "incidents", "incident_alerts", "decisions", "timeline", "notices",
    "notification_tasks", "dead_letters",
)  # fmt: skip
LOAD_SOURCES: Final = ("redis", "postgres")

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SLOW: Final = (*_FAST, 10, 30, 60, 300, 1800, 3600)
_SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


def observe(histogram: Histogram, amount: float) -> None:
    """Count one amount, with the trace that is worked on as its example."""
    context = current.get()
    histogram.observe(amount, {"trace_id": trace_id(context)} if context else None)


def _declared(metric: Metric, *values: Iterable[str]) -> Metric:
    for labels in product(*values):
        metric.labels(*labels)
    return metric


commit_seconds = _declared(
    Histogram(
        "incidents_commit_seconds", "Time from acceptance until an agent's step had it in Postgres, by record.",
        ("agent",), buckets=_SLOW,
    ),
    AGENTS,
)  # fmt: skip
events = _declared(
    Counter("incidents_events", "Events by what became of them, as this worker decided.", ("verdict",)),
    Verdict,
)
step_seconds = _declared(
    Histogram("incidents_step_seconds", "Time of each part of a step.", ("agent", "part"), buckets=_FAST),
    AGENTS,
    STEP_PARTS,
)
step_batch_records = _declared(
    Histogram("incidents_step_batch_records", "Records that one step took.", ("agent",), buckets=_SIZES),
    AGENTS,
)
step_batch_items = _declared(
    Histogram("incidents_step_batch_items", "Items inside the records that one step took.", ("agent",), buckets=_SIZES),
    AGENTS,
)
step_waits = _declared(
    Counter("incidents_step_waits", "Times a step had to wait for a dependency, by its name.", ("agent", "part")),
    AGENTS,
    PARTS,
)
lag_records = _declared(
    Gauge("incidents_lag_records", "Records not yet applied by this worker.", ("topic",)), TOPIC_NAMES
)
lag_seconds = _declared(
    Gauge("incidents_lag_seconds", "Age of the oldest record not yet applied.", ("topic",)), TOPIC_NAMES
)
backlog_records = _declared(
    Gauge(
        "incidents_backlog_records", "Records not yet applied by anybody, as Kafka and Postgres tell it.", ("topic",)
    ),
    (ALERTS, INPUTS),
)
backlog_seconds = _declared(
    Gauge("incidents_backlog_seconds", "Age of the oldest record not yet applied by anybody.", ("topic",)),
    (ALERTS, INPUTS),
)
partitions = _declared(
    Gauge("incidents_partitions", "Partitions that somebody must hold.", ("topic",)), (ALERTS, INPUTS)
)
partition_epoch = Gauge(
    "incidents_partition_epoch", "Epoch of each partition this worker holds.", ("topic", "partition")
)
rebalances = Counter("incidents_rebalances", "Rebalances that this worker went through.")
buffer_fill_ratio = _declared(
    Gauge("incidents_buffer_fill_ratio", "How full a buffer is: at 1 its writer waits or is refused.", ("buffer",)),
    BUFFERS,
)
alerts_fill_ratio = Gauge(
    "incidents_alerts_fill_ratio", "How full the fullest partition of alerts is: at 1 new alerts are refused."
)
partitions_owned = _declared(
    Gauge("incidents_partitions_owned", "Partitions this worker holds.", ("topic",)), TOPIC_NAMES
)
table_entries = _declared(Gauge("incidents_table_entries", "Entries of each table on this worker.", ("table",)), TABLES)
table_bytes = _declared(
    Gauge("incidents_table_bytes", "Bytes of encoded values of each table on this worker, by a sample.", ("table",)),
    TABLES,
)
table_evictions = _declared(
    Counter("incidents_table_evictions", "Entries that left a table because of its bound.", ("table",)),
    TABLES,
)
table_repairs = Counter(
    "incidents_table_repairs", "Partitions that their owner wrote to Redis again because Redis had forgotten them."
)
table_load_seconds = _declared(
    Histogram("incidents_table_load_seconds", "Time to have one partition's tables ready.", ("source",), buckets=_FAST),
    LOAD_SOURCES,
)
ticks = _declared(Counter("incidents_ticks", "Ticks that the timers produced.", ("topic",)), (ALERTS, INPUTS))
auth_refused = _declared(
    Counter("incidents_auth_refused", "Requests that ended at the gateway's door, by why.", ("reason",)),
    ("nothing", "credential", "scope", "csrf", "rate", "away"),
)
fenced = Counter("incidents_fenced", "Times this process found a newer owner of its partition.")

ingest_requests = _declared(
    Counter("incidents_ingest_requests", "Ingest requests by route and answer.", ("route", "code")),
    INGEST_ROUTES,
    INGEST_CODES,
)
ingest_seconds = _declared(
    Histogram("incidents_ingest_seconds", "Time from a request's arrival to its answer.", ("route",), buckets=_FAST),
    INGEST_ROUTES,
)
intake_items = _declared(
    Counter("incidents_intake_items", "Items judged at intake.", ("via", "result")),
    INTAKE_VIAS,
    INTAKE_RESULTS,
)
produced_records = _declared(
    Counter("incidents_produced_records", "Records given to Kafka.", ("topic", "result")),
    TOPIC_NAMES,
    PRODUCE_RESULTS,
)
produce_seconds = Histogram("incidents_produce_seconds", "Time until Kafka confirmed.", buckets=_FAST)
fallback_messages = _declared(
    Counter(
        "incidents_fallback_messages", "Events handed to RabbitMQ because Kafka did not confirm in time.", ("result",)
    ),
    FALLBACK_RESULTS,
)
amqp_messages = _declared(
    Counter("incidents_amqp_messages", "Messages taken from RabbitMQ.", ("result",)),
    AMQP_RESULTS,
)
amqp_batch_messages = Histogram("incidents_amqp_batch_messages", "Messages that one bridge batch took.", buckets=_SIZES)
amqp_seconds = Histogram("incidents_amqp_seconds", "Time from delivery to acknowledgement.", buckets=_FAST)
dead_letters = _declared(
    Counter("incidents_dead_letters", "What could not be used.", ("source",)),
    DEAD_LETTER_SOURCES,
)

dead_letters_waiting = Gauge("incidents_dead_letters_waiting", "Dead letters that nobody has dealt with.")
amqp_waiting_messages = Gauge("incidents_amqp_waiting_messages", "Messages that wait in RabbitMQ for the bridge.")
postgres_table_bytes = _declared(
    Gauge("incidents_postgres_table_bytes", "Bytes of a table in Postgres with its indexes.", ("table",)),
    POSTGRES_TABLES,
)
active_incidents = _declared(
    Gauge("incidents_active_incidents", "Incidents that are not resolved.", ("status", "severity")),
    ACTIVE_STATUSES,
    Severity,
)
incidents = _declared(
    Counter("incidents_incidents", "What happened to incidents.", ("event",)),
    INCIDENT_EVENTS,
)
opened_severity = _declared(
    Counter("incidents_opened_severity", "Incidents opened, by severity at that moment.", ("severity",)),
    Severity,
)
notifications = _declared(
    Counter("incidents_notifications", "Attempts to tell a target.", ("channel", "outcome")),
    CHANNELS,
    NOTIFICATION_OUTCOMES,
)
notification_seconds = _declared(
    Histogram("incidents_notification_seconds", "Time of one attempt.", ("channel",), buckets=(*_FAST, 10, 30)),
    CHANNELS,
)
notice_seconds = Histogram(
    "incidents_notice_seconds", "Time from when a notice was made until its target had it.", buckets=_SLOW
)
first_notice_seconds = Histogram(
    "incidents_first_notice_seconds",
    "Time from an alert's acceptance until the first notice of it was taken, group_wait and silences included.",
    buckets=_SLOW,
)
template_failures = Counter("incidents_template_failures", "Texts left empty because their template failed.")
notifications_due = Gauge("incidents_notifications_due", "Tasks that are due and not finished.")
targets_failing = Gauge("incidents_targets_failing", "Targets whose last notice did not get through.")
kafka_passed_over = Gauge(
    "incidents_kafka_passed_over", "1 while this gateway hands events to RabbitMQ because Kafka does not confirm."
)
targets_paused = Gauge("incidents_targets_paused", "Targets that this process leaves alone after failures.")
notifications_oldest_seconds = Gauge("incidents_notifications_oldest_seconds", "Age of the oldest due task.")

job_runs = _declared(
    Counter("incidents_job_runs", "Attempts at jobs that ended here, by how.", ("action", "outcome")),
    Action,
    JOB_OUTCOMES,
)
job_seconds = _declared(
    Histogram("incidents_job_seconds", "Time of one attempt at a job.", ("action",), buckets=(*_FAST, 10, 60, 600)),
    Action,
)
job_deaths = _declared(
    Counter("incidents_job_deaths", "Attempts found here whose worker had died.", ("action",)), Action
)
job_slots_missed = Counter("incidents_job_slots_missed", "Slots of jobs for which nobody was there, found here.")
jobs_running = Gauge("incidents_jobs_running", "Runs of jobs that this worker does now.")
heartbeats = Counter("incidents_heartbeats", "Beats of watched things that were stored.")
heartbeats_missing = Gauge("incidents_heartbeats_missing", "Watched things that are silent now.")
canary_seconds = Gauge(
    "incidents_canary_seconds", "From the canary's alert being posted until its incident and notice were there."
)
canary_success_timestamp_seconds = Gauge(
    "incidents_canary_success_timestamp_seconds", "When the canary was last back in time [s]."
)

config_last_reload_successful = Gauge(
    "incidents_config_last_reload_successful", "1 if the rules file was good when it was last read, else 0."
)
config_last_reload_success_timestamp_seconds = Gauge(
    "incidents_config_last_reload_success_timestamp_seconds", "When the rules file was last read and good [s]."
)

loop_lag_seconds = Histogram("incidents_loop_lag_seconds", "How late the event loop woke.", buckets=_FAST)
part_up = _declared(Gauge("incidents_part_up", "1 while a part that this role uses answers.", ("part",)), PARTS)
live_clients = Gauge("incidents_live_clients", "Pages that listen for live changes.")
live_dropped = Counter("incidents_live_dropped", "Live clients cut off because they were too slow.")
connections_crowded = Counter(
    "incidents_connections_crowded", "Connections to the gateway for which another gave way, or that were refused."
)
connections_unread = Counter("incidents_connections_unread", "Connections cut off because answers were not read.")
