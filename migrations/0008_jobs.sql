-- Jobs: what is to be done at which times, each time that it is done, and things that are watched for their silence.

CREATE TABLE jobs (
    name         text PRIMARY KEY,
    team         text NOT NULL DEFAULT 'default',
    action       text NOT NULL,
    arguments    jsonb NOT NULL DEFAULT '{}',
    -- A cron expression in its zone; NULL: only when asked.
    schedule     text,
    zone         text NOT NULL DEFAULT 'UTC',
    missed       text NOT NULL DEFAULT 'skip' CHECK (missed IN ('skip', 'run_once')),
    origin       text NOT NULL CHECK (origin IN ('built-in', 'configuration', 'api')),
    created_by   text NOT NULL DEFAULT 'system',
    paused_by    text NOT NULL DEFAULT '',
    paused_at    timestamptz,
    next_at      timestamptz,
    max_attempts smallint NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((schedule IS NULL) OR (next_at IS NOT NULL))
);
CREATE INDEX jobs_due ON jobs (next_at) WHERE paused_at IS NULL;

-- Which rules file the jobs of origin `configuration` were made from.
CREATE TABLE jobs_applied (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint NOT NULL DEFAULT -1,
    program text NOT NULL DEFAULT ''
);
INSERT INTO jobs_applied DEFAULT VALUES;

CREATE TABLE job_runs (
    id           uuid PRIMARY KEY,
    -- NULL: background work that belongs to no job. A job's runs outlive it.
    job          text,
    team         text NOT NULL,
    action       text NOT NULL,
    arguments    jsonb NOT NULL,
    -- NULL: somebody asked for it.
    slot_at      timestamptz,
    asked_by     text NOT NULL DEFAULT '',
    state        text NOT NULL DEFAULT 'due'
        CHECK (state IN ('due', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
    attempt      smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL,
    -- Attempts whose worker died.
    deaths       smallint NOT NULL DEFAULT 0,
    -- Slots that nobody was there for, this one included where it was late or is skipped.
    missed       integer NOT NULL DEFAULT 0,
    -- The fence: each claim has the next one, and only its holder may write.
    token        bigint NOT NULL DEFAULT 0,
    owner        text,
    lease_until  timestamptz,
    due_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    finished_at  timestamptz,
    cancel_by    text NOT NULL DEFAULT '',
    done         bigint NOT NULL DEFAULT 0,
    total        bigint,
    -- Where an attempt after this one goes on.
    cursor       text NOT NULL DEFAULT '',
    result       jsonb,
    error        text NOT NULL DEFAULT '',
    UNIQUE (job, slot_at),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX job_runs_one_at_a_time ON job_runs (job) WHERE state IN ('due', 'running');
CREATE INDEX job_runs_open ON job_runs (due_at) WHERE state IN ('due', 'running');
CREATE INDEX job_runs_by_job ON job_runs (job, created_at DESC, id);
CREATE INDEX job_runs_by_creation ON job_runs (created_at DESC, id);

CREATE TABLE job_log (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id  uuid NOT NULL REFERENCES job_runs (id) ON DELETE CASCADE,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt smallint NOT NULL,
    line    text NOT NULL
);
CREATE INDEX job_log_by_run ON job_log (run_id, seq);

-- What an export wrote, in order.
CREATE TABLE job_files (
    run_id uuid NOT NULL REFERENCES job_runs (id) ON DELETE CASCADE,
    part   integer NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (run_id, part)
);

-- Retention asks for these.
CREATE INDEX alerts_over ON alerts (ends_at) WHERE status = 'resolved';

CREATE TABLE heartbeats (
    team         text NOT NULL DEFAULT 'default',
    name         text NOT NULL,
    "interval"   interval NOT NULL CHECK ("interval" > '0'),
    grace        interval NOT NULL CHECK (grace >= '0'),
    severity     text NOT NULL DEFAULT 'critical',
    labels       jsonb NOT NULL DEFAULT '{}',
    state        text NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'missing')),
    last_beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beats        bigint NOT NULL DEFAULT 1,
    -- Counts its silences; `told` is false while the last change is not known to be on Kafka.
    episode      bigint NOT NULL DEFAULT 0,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    told         boolean NOT NULL DEFAULT true,
    deleted      boolean NOT NULL DEFAULT false,
    created_by   text NOT NULL DEFAULT 'system',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (team, name)
);
CREATE INDEX heartbeats_untold ON heartbeats (changed_at) WHERE NOT told;

-- Since when heartbeats have been watched without a break.
CREATE TABLE heartbeat_watch (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    looked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    since_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO heartbeat_watch DEFAULT VALUES;
