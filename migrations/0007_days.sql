-- Daily partitions come and go without a right to change the schema: these two run with their owner's rights,
-- and touch nothing but the days of a table that is partitioned.

-- Adds one UTC day to a table; rows of that day that came before it move in. Attaching, unlike
-- CREATE ... PARTITION OF, leaves the table open for inserts.
CREATE FUNCTION add_day(parent text, day date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC'
    AS $$
DECLARE
    name text := parent || '_' || to_char(day, 'YYYYMMDD');
    first timestamptz := day;
    next timestamptz := day + 1;
BEGIN
    PERFORM FROM pg_class WHERE oid = to_regclass(quote_ident(parent)) AND relkind = 'p';
    IF NOT FOUND THEN
        RAISE EXCEPTION '% has no days', parent;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_other');
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE decided_at >= $1 AND decided_at < $2 RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', parent || '_other', name) USING first, next;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, first, next);
    RETURN name;
END $$;

-- Drops the days of a table before a day, and such rows as have no day of their own; the names of what was dropped.
CREATE FUNCTION drop_days(parent text, before date) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC'
    AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(quote_ident(parent)) AND c.relname ~ '_\d{8}$'
            AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT name;
    END LOOP;
    EXECUTE format('DELETE FROM %I WHERE decided_at < $1', parent || '_other') USING before::timestamptz;
END $$;

REVOKE ALL ON FUNCTION add_day, drop_days FROM PUBLIC;
