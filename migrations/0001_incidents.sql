-- The first schema: what came in, what was decided, what people work on, what is sent.

-- One row for each life of the Kafka log that this database has followed.
CREATE TABLE log_lives (
    log_id      text PRIMARY KEY,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_by text NOT NULL DEFAULT 'start'
);

-- How far each partition of each log has been applied, by whom, and its sums.
CREATE TABLE stream_progress (
    log_id         text NOT NULL REFERENCES log_lives,
    topic          text NOT NULL,
    partition      int NOT NULL CHECK (partition >= 0),
    epoch          bigint NOT NULL,
    applied        bigint NOT NULL DEFAULT -1,
    safe           bigint NOT NULL DEFAULT -1,
    config_version bigint NOT NULL DEFAULT 0,
    watermark      timestamptz NOT NULL DEFAULT 'epoch',
    received       bigint NOT NULL DEFAULT 0,
    new            bigint NOT NULL DEFAULT 0,
    changed        bigint NOT NULL DEFAULT 0,
    resolved       bigint NOT NULL DEFAULT 0,
    duplicate      bigint NOT NULL DEFAULT 0,
    late           bigint NOT NULL DEFAULT 0,
    rejected       bigint NOT NULL DEFAULT 0,
    redelivered    bigint NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (log_id, topic, partition),
    CHECK (safe <= applied),
    CHECK (received = new + changed + resolved + duplicate + late + rejected + redelivered)
);

-- One row for each occurrence of each alert; the newest carries the table values.
CREATE TABLE alerts (
    identity      text NOT NULL,
    occurrence    bigint NOT NULL CHECK (occurrence >= 1),
    partition     int NOT NULL,
    team          text NOT NULL,
    fingerprint   text NOT NULL,
    source        text NOT NULL,
    status        text NOT NULL CHECK (status IN ('firing', 'resolved')),
    severity      text NOT NULL,
    kind          text NOT NULL,
    summary       text NOT NULL,
    description   text NOT NULL,
    labels        jsonb NOT NULL,
    annotations   jsonb NOT NULL,
    links         jsonb NOT NULL,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    event_count   bigint NOT NULL CHECK (event_count >= 0),
    revision      bigint NOT NULL,
    groups        text[] NOT NULL DEFAULT '{}',
    state         bytea NOT NULL,
    pulse         bytea NOT NULL,
    committed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (identity, occurrence),
    CHECK (status = 'firing' OR ends_at IS NOT NULL)
);
CREATE INDEX alerts_by_partition ON alerts (partition, identity, occurrence DESC);
CREATE INDEX alerts_by_fingerprint ON alerts (fingerprint);
CREATE INDEX alerts_firing ON alerts (team, starts_at) WHERE status = 'firing';

-- What became of each event; duplicates of one alert in one record share a row.
CREATE TABLE verdicts (
    log_id       text NOT NULL,
    partition    int NOT NULL,
    "offset"     bigint NOT NULL,
    verdict      text NOT NULL CHECK (verdict IN ('new', 'changed', 'resolved', 'duplicate', 'late', 'rejected')),
    identity     text,
    occurrence   bigint,
    events       int NOT NULL CHECK (events >= 1),
    event_ids    text[] NOT NULL,
    reason       text NOT NULL DEFAULT '',
    via          text NOT NULL,
    accepted_at  timestamptz NOT NULL,
    decided_at   timestamptz NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((verdict = 'rejected') = (identity IS NULL))
) PARTITION BY RANGE (decided_at);
CREATE TABLE verdicts_other PARTITION OF verdicts DEFAULT;
CREATE INDEX verdicts_by_alert ON verdicts (identity, occurrence);
CREATE INDEX verdicts_by_time ON verdicts USING brin (decided_at);

-- Events that were refused, kept so that a person can look, mend and replay.
CREATE TABLE dead_letters (
    event_id     text PRIMARY KEY,
    team         text NOT NULL,
    source       text NOT NULL,
    field        text NOT NULL,
    reason       text NOT NULL,
    body         bytea NOT NULL CHECK (octet_length(body) <= 65536),
    content_type text NOT NULL,
    via          text NOT NULL,
    received_at  timestamptz NOT NULL,
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'dropped')),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letters_waiting ON dead_letters (received_at DESC) WHERE state = 'waiting';

-- A group: the alerts that one route puts together; its state is the table value.
CREATE TABLE groups (
    group_key  text PRIMARY KEY,
    partition  int NOT NULL,
    team       text NOT NULL,
    route      text NOT NULL,
    labels     jsonb NOT NULL,
    revision   bigint NOT NULL,
    state      bytea NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX groups_by_partition ON groups (partition);

-- One occurrence of a group: what people work on.
CREATE TABLE incidents (
    id              uuid PRIMARY KEY,
    title           varchar(255) NOT NULL,
    description     text NOT NULL,
    severity        varchar(20) NOT NULL CHECK (severity IN ('critical', 'error', 'warning', 'info', 'unknown')),
    status          varchar(20) NOT NULL CHECK (status IN ('open', 'acknowledged', 'resolved', 'merged')),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    team            text NOT NULL,
    kind            text NOT NULL,
    parent_id       uuid REFERENCES incidents,
    predecessor_id  uuid REFERENCES incidents,
    group_key       text NOT NULL,
    group_labels    jsonb NOT NULL,
    route           text NOT NULL,
    receiver        text NOT NULL,
    partition       int NOT NULL,
    revision        bigint NOT NULL,
    reopened        int NOT NULL DEFAULT 0,
    acknowledged_at timestamptz,
    resolved_at     timestamptz,
    committed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL) OR status = 'merged'),
    CHECK (parent_id IS NULL OR parent_id <> id),
    CHECK (predecessor_id IS NULL OR predecessor_id <> id)
);
CREATE UNIQUE INDEX incidents_one_open_per_group ON incidents (group_key) WHERE status IN ('open', 'acknowledged');
CREATE INDEX incidents_by_change ON incidents (updated_at DESC, id);
CREATE INDEX incidents_by_creation ON incidents (created_at DESC, id);
CREATE INDEX incidents_by_commit ON incidents (committed_at);
CREATE INDEX incidents_by_group ON incidents (group_key);

-- Which occurrences of which alerts an incident is about; `state` is there while
-- the alert is a member of the incident's group.
CREATE TABLE incident_alerts (
    incident_id  uuid NOT NULL REFERENCES incidents,
    identity     text NOT NULL,
    occurrence   bigint NOT NULL,
    group_key    text NOT NULL,
    partition    int NOT NULL,
    firing       boolean NOT NULL,
    revision     bigint NOT NULL,
    joined_at    timestamptz NOT NULL,
    ended_at     timestamptz,
    state        bytea,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (incident_id, identity, occurrence)
);
CREATE INDEX incident_alerts_members ON incident_alerts (partition) WHERE state IS NOT NULL;
CREATE INDEX incident_alerts_by_alert ON incident_alerts (identity, occurrence);

-- Everything that happened to an incident, in order; rows are only added.
CREATE TABLE timeline (
    incident_id uuid NOT NULL REFERENCES incidents,
    seq         bigint NOT NULL,
    at          timestamptz NOT NULL,
    event       text NOT NULL,
    actor       text NOT NULL,
    detail      jsonb NOT NULL,
    PRIMARY KEY (incident_id, seq)
);

-- What was decided about a group, and why.
CREATE TABLE decisions (
    group_key   text NOT NULL,
    seq         bigint NOT NULL,
    incident_id uuid,
    identity    text,
    decision    text NOT NULL,
    reason      text NOT NULL,
    detail      jsonb NOT NULL,
    decided_at  timestamptz NOT NULL,
    PRIMARY KEY (group_key, seq, decided_at)
) PARTITION BY RANGE (decided_at);
CREATE TABLE decisions_other PARTITION OF decisions DEFAULT;
CREATE INDEX decisions_by_incident ON decisions (incident_id);
CREATE INDEX decisions_by_alert ON decisions (identity);

-- The alerts of one flush of a group, shared by the tasks it caused.
CREATE TABLE notices (
    id          uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents,
    decision    int NOT NULL,
    body        jsonb NOT NULL,
    created_at  timestamptz NOT NULL
);

-- One notice to one target: the outbox. The id is the idempotency key.
CREATE TABLE notification_tasks (
    id          uuid PRIMARY KEY,
    notice_id   uuid NOT NULL REFERENCES notices,
    incident_id uuid NOT NULL REFERENCES incidents,
    group_key   text NOT NULL,
    team        text NOT NULL,
    decision    int NOT NULL,
    receiver    text NOT NULL,
    integration int NOT NULL,
    channel     text NOT NULL,
    target      text NOT NULL,
    options     jsonb NOT NULL,
    reason      text NOT NULL,
    state       text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'sending', 'sent', 'failed')),
    attempts    int NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL,
    lease_until timestamptz,
    lease_owner text,
    last_reason text NOT NULL DEFAULT '',
    last_detail text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    told_group  boolean NOT NULL DEFAULT false,
    UNIQUE (incident_id, decision, receiver, integration),
    CHECK ((finished_at IS NOT NULL) = (state IN ('sent', 'failed'))),
    CHECK ((lease_until IS NOT NULL) = (state = 'sending'))
);
CREATE INDEX notification_tasks_open ON notification_tasks (due_at) WHERE state IN ('due', 'sending');
CREATE INDEX notification_tasks_order ON notification_tasks (incident_id, target, decision) WHERE state IN ('due', 'sending');
CREATE INDEX notification_tasks_untold ON notification_tasks (finished_at) WHERE finished_at IS NOT NULL AND NOT told_group;
CREATE INDEX notification_tasks_by_incident ON notification_tasks (incident_id);

-- Every rules file that was ever applied, whole.
CREATE TABLE config_versions (
    version    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     text NOT NULL,
    body       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL
);
