-- What is over does not pile up for ever: who did what goes after a time (never within a month), and so do notices.
-- An answer that is kept for repeats keeps its ETag.

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF tg_op = 'DELETE' AND tg_nargs = 1
        AND (to_jsonb(old) ->> tg_argv[0])::timestamptz < clock_timestamp() - interval '30 days' THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION '% keeps its rows as they are', tg_table_name;
END $$;

DROP TRIGGER audit_log_is_kept ON audit_log;
CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change('at');
DROP TRIGGER actions_are_kept ON actions;
CREATE TRIGGER actions_are_kept BEFORE UPDATE OR DELETE ON actions
    FOR EACH ROW EXECUTE FUNCTION refuse_change('decided_at');

-- Deletes some of the oldest deeds and actions; how many. It has its owner's rights, as nobody else deletes them.
CREATE FUNCTION forget_deeds(older_than interval, at_most int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    until timestamptz := clock_timestamp() - greatest(older_than, interval '30 days 1 hour');
    deeds int;
    done int;
BEGIN
    DELETE FROM audit_log WHERE at < until AND seq IN (SELECT seq FROM audit_log ORDER BY seq LIMIT at_most);
    GET DIAGNOSTICS deeds = ROW_COUNT;
    DELETE FROM actions WHERE id IN (SELECT id FROM actions WHERE decided_at < until ORDER BY decided_at LIMIT at_most);
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN greatest(deeds, done);
END $$;

REVOKE ALL ON FUNCTION forget_deeds FROM PUBLIC;

CREATE INDEX actions_by_time ON actions (decided_at);
CREATE INDEX notification_tasks_over ON notification_tasks (finished_at) WHERE finished_at IS NOT NULL AND told_group;
CREATE INDEX notification_tasks_by_notice ON notification_tasks (notice_id);
CREATE INDEX notification_tasks_by_digest ON notification_tasks (digest_id) WHERE digest_id IS NOT NULL;

ALTER TABLE kept_answers ADD COLUMN etag text NOT NULL DEFAULT '';
