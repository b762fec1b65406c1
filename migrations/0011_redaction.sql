-- A redaction runs with its owner's rights and does nothing else: what runs needs no right to change a timeline.

-- Blanks what one line of an incident's timeline says; that it said something, when, and who, stays.
CREATE FUNCTION redact_line(incident uuid, line bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET incidents.redacting = 'on'
    AS $$
BEGIN
    UPDATE timeline SET detail = '{"redacted": "[redacted]"}' WHERE incident_id = incident AND seq = line;
END $$;

-- Blanks a field wherever an incident's timeline tells of it, and where a line has the old text as its summary.
CREATE FUNCTION redact_field(incident uuid, field text, old text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET incidents.redacting = 'on'
    AS $$
BEGIN
    UPDATE timeline SET detail = detail
        || CASE WHEN detail ? field THEN jsonb_build_object(field, '[redacted]') ELSE '{}' END
        || CASE WHEN detail ->> 'summary' = old THEN '{"summary": "[redacted]"}'::jsonb ELSE '{}' END
    WHERE incident_id = incident AND (detail ? field OR detail ->> 'summary' = old);
END $$;
