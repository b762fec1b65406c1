-- Incidents of the canary come every minute and reach nobody: they alone go, with all that belongs to them.

CREATE OR REPLACE FUNCTION keep_timeline() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF tg_op = 'UPDATE' AND current_setting('incidents.redacting', true) = 'on'
        AND (new.incident_id, new.seq, new.at, new.event, new.actor)
            IS NOT DISTINCT FROM (old.incident_id, old.seq, old.at, old.event, old.actor) THEN
        RETURN new;
    END IF;
    IF tg_op = 'DELETE'
        AND EXISTS (SELECT FROM incidents WHERE id = old.incident_id AND route = '(canary)') THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION '% keeps its rows as they are', tg_table_name;
END $$;

-- Deletes some of them that ended a while ago; how many. It has its owner's rights, as nobody else deletes a timeline.
CREATE FUNCTION forget_canaries(older_than interval, at_most int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    gone uuid[];
BEGIN
    SELECT array_agg(id) INTO gone FROM (
        SELECT id FROM incidents
        WHERE route = '(canary)' AND status = 'resolved' AND updated_at < clock_timestamp() - older_than
            AND NOT EXISTS (SELECT FROM notification_tasks t
                            WHERE t.incident_id = incidents.id AND t.state IN ('due', 'sending', 'folded'))
            AND NOT EXISTS (SELECT FROM groups g WHERE g.group_key = incidents.group_key)
        LIMIT at_most FOR UPDATE SKIP LOCKED) old;
    DELETE FROM timeline WHERE incident_id = ANY (gone);
    DELETE FROM channel_memory WHERE incident_id = ANY (gone);
    DELETE FROM incident_alerts WHERE incident_id = ANY (gone);
    DELETE FROM notification_tasks WHERE incident_id = ANY (gone);
    DELETE FROM notices WHERE incident_id = ANY (gone);
    DELETE FROM incidents WHERE id = ANY (gone);
    RETURN coalesce(cardinality(gone), 0);
END $$;

REVOKE ALL ON FUNCTION forget_canaries FROM PUBLIC;

CREATE INDEX incidents_of_the_canary ON incidents (updated_at) WHERE route = '(canary)';
