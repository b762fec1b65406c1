-- What people do to incidents: what became of each action, what they made of an incident, and a timeline that stays.

-- One row for each action that was asked for, by its id: done, or refused with the reason. Rows are only added.
CREATE TABLE actions (
    id           uuid PRIMARY KEY,
    incident_id  uuid NOT NULL,
    group_key    text NOT NULL,
    team         text NOT NULL,
    actor        text NOT NULL,
    action       text NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('done', 'refused')),
    reason       text NOT NULL DEFAULT '',
    asked_at     timestamptz NOT NULL,
    decided_at   timestamptz NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((outcome = 'refused') = (reason <> ''))
);
CREATE INDEX actions_by_incident ON actions (incident_id, decided_at);
CREATE TRIGGER actions_are_kept BEFORE UPDATE OR DELETE ON actions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- NULL while nobody has touched the incident. A parent may be of another partition, and committed later.
ALTER TABLE incidents ADD COLUMN handling jsonb;
ALTER TABLE incidents ADD COLUMN assignee text GENERATED ALWAYS AS (coalesce(handling ->> 'assignee', '')) STORED;
ALTER TABLE incidents ADD COLUMN flapping int NOT NULL DEFAULT 0;
ALTER TABLE incidents DROP CONSTRAINT incidents_parent_id_fkey;
CREATE INDEX incidents_by_parent ON incidents (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX incidents_by_assignee ON incidents (assignee) WHERE assignee <> '';

-- Lines of the timeline are only added. A redaction alone, which names itself, may blank the detail of one.
CREATE FUNCTION keep_timeline() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF tg_op = 'UPDATE' AND current_setting('incidents.redacting', true) = 'on'
        AND (new.incident_id, new.seq, new.at, new.event, new.actor)
            IS NOT DISTINCT FROM (old.incident_id, old.seq, old.at, old.event, old.actor) THEN
        RETURN new;
    END IF;
    RAISE EXCEPTION '% keeps its rows as they are', tg_table_name;
END $$;
CREATE TRIGGER timeline_is_kept BEFORE UPDATE OR DELETE ON timeline
    FOR EACH ROW EXECUTE FUNCTION keep_timeline();
