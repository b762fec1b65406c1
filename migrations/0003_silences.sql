-- Silences, who changed them, and what each partition has applied of what mutes.

-- The order in which silences changed: a writer holds the row until it commits, so places are seen in order.
CREATE TABLE directory (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    sequence bigint NOT NULL DEFAULT 0
);
INSERT INTO directory DEFAULT VALUES;

-- One silence: readable columns, and `state`, which is what partitions are told.
CREATE TABLE silences (
    id            uuid PRIMARY KEY,
    sequence      bigint NOT NULL UNIQUE,
    team          text NOT NULL DEFAULT 'default',
    matchers      jsonb NOT NULL,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    recurrence    jsonb,
    created_by    text NOT NULL,
    comment       text NOT NULL,
    annotations   jsonb NOT NULL DEFAULT '{}',
    remind_before interval,
    remind_to     text NOT NULL DEFAULT '',
    replaces      uuid REFERENCES silences,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL,
    state         bytea NOT NULL,
    CHECK (ends_at >= starts_at),
    CHECK (remind_before IS NULL OR remind_before > interval '0')
);
CREATE INDEX silences_by_end ON silences (ends_at DESC, id);

-- Who changed which silence, when, and how: rows are only added.
CREATE TABLE silence_audit (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    silence_id uuid NOT NULL REFERENCES silences,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL CHECK (action IN ('created', 'edited', 'expired', 'replaced')),
    before     jsonb,
    after      jsonb NOT NULL,
    CHECK ((before IS NULL) = (action = 'created'))
);
CREATE INDEX silence_audit_by_silence ON silence_audit (silence_id, seq);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% keeps its rows as they are', tg_table_name; END $$;
CREATE TRIGGER silence_audit_is_kept BEFORE UPDATE OR DELETE ON silence_audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- The table `rules` of each partition of incident-inputs: silences, sources that mute, and the place in the directory.
CREATE TABLE partition_rules (
    partition int NOT NULL,
    key       text NOT NULL,
    revision  bigint NOT NULL,
    value     bytea NOT NULL,
    PRIMARY KEY (partition, key)
);
