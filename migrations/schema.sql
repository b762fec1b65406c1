-- What the migrations lead to; made from them, for reading.

CREATE FUNCTION public.add_day(parent text, day date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
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
END $_$;

CREATE FUNCTION public.drop_days(parent text, before date) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $_$
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
END $_$;

CREATE FUNCTION public.forget_canaries(older_than interval, at_most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
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

CREATE FUNCTION public.forget_deeds(older_than interval, at_most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
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

CREATE FUNCTION public.keep_timeline() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN
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

CREATE FUNCTION public.redact_field(incident uuid, field text, old text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "incidents.redacting" TO 'on'
    AS $$
BEGIN
    UPDATE timeline SET detail = detail
        || CASE WHEN detail ? field THEN jsonb_build_object(field, '[redacted]') ELSE '{}' END
        || CASE WHEN detail ->> 'summary' = old THEN '{"summary": "[redacted]"}'::jsonb ELSE '{}' END
    WHERE incident_id = incident AND (detail ? field OR detail ->> 'summary' = old);
END $$;

CREATE FUNCTION public.redact_line(incident uuid, line bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "incidents.redacting" TO 'on'
    AS $$
BEGIN
    UPDATE timeline SET detail = '{"redacted": "[redacted]"}' WHERE incident_id = incident AND seq = line;
END $$;

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN
    IF tg_op = 'DELETE' AND tg_nargs = 1
        AND (to_jsonb(old) ->> tg_argv[0])::timestamptz < clock_timestamp() - interval '30 days' THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION '% keeps its rows as they are', tg_table_name;
END $$;

CREATE TABLE public.actions (
    id uuid NOT NULL,
    incident_id uuid NOT NULL,
    group_key text NOT NULL,
    team text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    asked_at timestamp with time zone NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT actions_check CHECK (((outcome = 'refused'::text) = (reason <> ''::text))),
    CONSTRAINT actions_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'refused'::text])))
);

CREATE TABLE public.alerts (
    identity text NOT NULL,
    occurrence bigint NOT NULL,
    partition integer NOT NULL,
    team text NOT NULL,
    fingerprint text NOT NULL,
    source text NOT NULL,
    status text NOT NULL,
    severity text NOT NULL,
    kind text NOT NULL,
    summary text NOT NULL,
    description text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    links jsonb NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    event_count bigint NOT NULL,
    revision bigint NOT NULL,
    groups text[] DEFAULT '{}'::text[] NOT NULL,
    state bytea NOT NULL,
    pulse bytea NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT alerts_check CHECK (((status = 'firing'::text) OR (ends_at IS NOT NULL))),
    CONSTRAINT alerts_event_count_check CHECK ((event_count >= 0)),
    CONSTRAINT alerts_occurrence_check CHECK ((occurrence >= 1)),
    CONSTRAINT alerts_status_check CHECK ((status = ANY (ARRAY['firing'::text, 'resolved'::text])))
);

CREATE TABLE public.api_tokens (
    id uuid NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,
    scopes text[] NOT NULL,
    teams text[],
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_tokens_check CHECK (((NOT ('admin'::text = ANY (scopes))) OR (teams IS NULL))),
    CONSTRAINT api_tokens_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT api_tokens_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT api_tokens_scopes_check CHECK (((scopes <> '{}'::text[]) AND (scopes <@ ARRAY['ingest'::text, 'read'::text, 'act'::text, 'admin'::text]))),
    CONSTRAINT api_tokens_teams_check CHECK ((teams <> '{}'::text[]))
);

CREATE TABLE public.audit_log (
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    actor_kind text NOT NULL,
    address text NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    outcome text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT audit_log_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'refused'::text, 'failed'::text])))
);

ALTER TABLE public.audit_log ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.channel_memory (
    incident_id uuid NOT NULL,
    receiver text NOT NULL,
    integration integer NOT NULL,
    memory jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.config_versions (
    version bigint NOT NULL,
    digest text NOT NULL,
    body text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    applied_by text NOT NULL,
    files json DEFAULT '{}'::json NOT NULL
);

ALTER TABLE public.config_versions ALTER COLUMN version ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.config_versions_version_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.dead_letters (
    event_id text NOT NULL,
    team text NOT NULL,
    source text NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    body bytea NOT NULL,
    content_type text NOT NULL,
    via text NOT NULL,
    received_at timestamp with time zone NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT dead_letters_body_check CHECK ((octet_length(body) <= 65536)),
    CONSTRAINT dead_letters_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'replayed'::text, 'dropped'::text])))
);

CREATE TABLE public.decisions (
    group_key text NOT NULL,
    seq bigint NOT NULL,
    incident_id uuid,
    identity text,
    decision text NOT NULL,
    reason text NOT NULL,
    detail jsonb NOT NULL,
    decided_at timestamp with time zone NOT NULL
)
PARTITION BY RANGE (decided_at);

CREATE TABLE public.decisions_other (
    group_key text CONSTRAINT decisions_group_key_not_null NOT NULL,
    seq bigint CONSTRAINT decisions_seq_not_null NOT NULL,
    incident_id uuid,
    identity text,
    decision text CONSTRAINT decisions_decision_not_null NOT NULL,
    reason text CONSTRAINT decisions_reason_not_null NOT NULL,
    detail jsonb CONSTRAINT decisions_detail_not_null NOT NULL,
    decided_at timestamp with time zone CONSTRAINT decisions_decided_at_not_null NOT NULL
);

CREATE TABLE public.directory (
    single boolean DEFAULT true NOT NULL,
    sequence bigint DEFAULT 0 NOT NULL,
    CONSTRAINT directory_single_check CHECK (single)
);

CREATE TABLE public.groups (
    group_key text NOT NULL,
    partition integer NOT NULL,
    team text NOT NULL,
    route text NOT NULL,
    labels jsonb NOT NULL,
    revision bigint NOT NULL,
    state bytea NOT NULL,
    updated_at timestamp with time zone NOT NULL
);

CREATE TABLE public.heartbeat_watch (
    single boolean DEFAULT true NOT NULL,
    looked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    since_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT heartbeat_watch_single_check CHECK (single)
);

CREATE TABLE public.heartbeats (
    team text DEFAULT 'default'::text NOT NULL,
    name text NOT NULL,
    "interval" interval NOT NULL,
    grace interval NOT NULL,
    severity text DEFAULT 'critical'::text NOT NULL,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    state text DEFAULT 'alive'::text NOT NULL,
    last_beat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    beats bigint DEFAULT 1 NOT NULL,
    episode bigint DEFAULT 0 NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    told boolean DEFAULT true NOT NULL,
    deleted boolean DEFAULT false NOT NULL,
    created_by text DEFAULT 'system'::text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT heartbeats_grace_check CHECK ((grace >= '00:00:00'::interval)),
    CONSTRAINT heartbeats_interval_check CHECK (("interval" > '00:00:00'::interval)),
    CONSTRAINT heartbeats_state_check CHECK ((state = ANY (ARRAY['alive'::text, 'missing'::text])))
);

CREATE TABLE public.incident_alerts (
    incident_id uuid NOT NULL,
    identity text NOT NULL,
    occurrence bigint NOT NULL,
    group_key text NOT NULL,
    partition integer NOT NULL,
    firing boolean NOT NULL,
    revision bigint NOT NULL,
    joined_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    state bytea,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.incidents (
    id uuid NOT NULL,
    title character varying(255) NOT NULL,
    description text NOT NULL,
    severity character varying(20) NOT NULL,
    status character varying(20) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    team text NOT NULL,
    kind text NOT NULL,
    parent_id uuid,
    predecessor_id uuid,
    group_key text NOT NULL,
    group_labels jsonb NOT NULL,
    route text NOT NULL,
    receiver text NOT NULL,
    partition integer NOT NULL,
    revision bigint NOT NULL,
    reopened integer DEFAULT 0 NOT NULL,
    acknowledged_at timestamp with time zone,
    resolved_at timestamp with time zone,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    handling jsonb,
    assignee text GENERATED ALWAYS AS (COALESCE((handling ->> 'assignee'::text), ''::text)) STORED,
    flapping integer DEFAULT 0 NOT NULL,
    CONSTRAINT incidents_check CHECK (((((status)::text = 'resolved'::text) = (resolved_at IS NOT NULL)) OR ((status)::text = 'merged'::text))),
    CONSTRAINT incidents_check1 CHECK (((parent_id IS NULL) OR (parent_id <> id))),
    CONSTRAINT incidents_check2 CHECK (((predecessor_id IS NULL) OR (predecessor_id <> id))),
    CONSTRAINT incidents_severity_check CHECK (((severity)::text = ANY ((ARRAY['critical'::character varying, 'error'::character varying, 'warning'::character varying, 'info'::character varying, 'unknown'::character varying])::text[]))),
    CONSTRAINT incidents_status_check CHECK (((status)::text = ANY ((ARRAY['open'::character varying, 'acknowledged'::character varying, 'resolved'::character varying, 'merged'::character varying])::text[])))
);

CREATE TABLE public.job_files (
    run_id uuid NOT NULL,
    part integer NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE public.job_log (
    seq bigint NOT NULL,
    run_id uuid NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempt smallint NOT NULL,
    line text NOT NULL
);

ALTER TABLE public.job_log ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.job_log_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.job_runs (
    id uuid NOT NULL,
    job text,
    team text NOT NULL,
    action text NOT NULL,
    arguments jsonb NOT NULL,
    slot_at timestamp with time zone,
    asked_by text DEFAULT ''::text NOT NULL,
    state text DEFAULT 'due'::text NOT NULL,
    attempt smallint DEFAULT 0 NOT NULL,
    max_attempts smallint NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    missed integer DEFAULT 0 NOT NULL,
    token bigint DEFAULT 0 NOT NULL,
    owner text,
    lease_until timestamp with time zone,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    cancel_by text DEFAULT ''::text NOT NULL,
    done bigint DEFAULT 0 NOT NULL,
    total bigint,
    cursor text DEFAULT ''::text NOT NULL,
    result jsonb,
    error text DEFAULT ''::text NOT NULL,
    CONSTRAINT job_runs_check CHECK (((state = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT job_runs_check1 CHECK (((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT job_runs_state_check CHECK ((state = ANY (ARRAY['due'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])))
);

CREATE TABLE public.jobs (
    name text NOT NULL,
    team text DEFAULT 'default'::text NOT NULL,
    action text NOT NULL,
    arguments jsonb DEFAULT '{}'::jsonb NOT NULL,
    schedule text,
    zone text DEFAULT 'UTC'::text NOT NULL,
    missed text DEFAULT 'skip'::text NOT NULL,
    origin text NOT NULL,
    created_by text DEFAULT 'system'::text NOT NULL,
    paused_by text DEFAULT ''::text NOT NULL,
    paused_at timestamp with time zone,
    next_at timestamp with time zone,
    max_attempts smallint DEFAULT 3 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT jobs_check CHECK (((schedule IS NULL) OR (next_at IS NOT NULL))),
    CONSTRAINT jobs_max_attempts_check CHECK ((max_attempts >= 1)),
    CONSTRAINT jobs_missed_check CHECK ((missed = ANY (ARRAY['skip'::text, 'run_once'::text]))),
    CONSTRAINT jobs_origin_check CHECK ((origin = ANY (ARRAY['built-in'::text, 'configuration'::text, 'api'::text])))
);

CREATE TABLE public.jobs_applied (
    single boolean DEFAULT true NOT NULL,
    version bigint DEFAULT '-1'::integer NOT NULL,
    program text DEFAULT ''::text NOT NULL,
    CONSTRAINT jobs_applied_single_check CHECK (single)
);

CREATE TABLE public.kept_answers (
    actor text NOT NULL,
    key text NOT NULL,
    request bytea NOT NULL,
    status integer,
    content_type text DEFAULT ''::text NOT NULL,
    body bytea DEFAULT '\x'::bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    etag text DEFAULT ''::text NOT NULL
);

CREATE TABLE public.log_lives (
    log_id text NOT NULL,
    accepted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    accepted_by text DEFAULT 'start'::text NOT NULL
);

CREATE TABLE public.login_failures (
    key text NOT NULL,
    failures integer NOT NULL,
    last_at timestamp with time zone NOT NULL
);

CREATE TABLE public.notices (
    id uuid NOT NULL,
    incident_id uuid,
    decision integer NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.notification_tasks (
    id uuid NOT NULL,
    notice_id uuid NOT NULL,
    incident_id uuid,
    group_key text NOT NULL,
    team text NOT NULL,
    decision integer NOT NULL,
    receiver text NOT NULL,
    integration integer NOT NULL,
    channel text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    state text DEFAULT 'due'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone,
    lease_owner text,
    last_reason text DEFAULT ''::text NOT NULL,
    last_detail text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    told_group boolean DEFAULT false NOT NULL,
    config_version bigint DEFAULT 0 NOT NULL,
    urgency smallint DEFAULT 4 NOT NULL,
    digest_id uuid,
    CONSTRAINT notification_tasks_check1 CHECK (((lease_until IS NOT NULL) = (state = 'sending'::text))),
    CONSTRAINT notification_tasks_digest_check CHECK (((digest_id IS NOT NULL) OR (state <> ALL (ARRAY['folded'::text, 'digested'::text])))),
    CONSTRAINT notification_tasks_finished_check CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['sent'::text, 'digested'::text, 'failed'::text])))),
    CONSTRAINT notification_tasks_state_check CHECK ((state = ANY (ARRAY['due'::text, 'sending'::text, 'folded'::text, 'sent'::text, 'digested'::text, 'failed'::text]))),
    CONSTRAINT notification_tasks_urgency_check CHECK (((urgency >= 0) AND (urgency <= 4)))
);

CREATE TABLE public.partition_rules (
    partition integer NOT NULL,
    key text NOT NULL,
    revision bigint NOT NULL,
    value bytea NOT NULL
);

CREATE TABLE public.schema_migrations (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.sessions (
    hash bytea NOT NULL,
    user_name text NOT NULL,
    address text NOT NULL,
    agent text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT sessions_hash_check CHECK ((octet_length(hash) = 32))
);

CREATE TABLE public.silence_audit (
    seq bigint NOT NULL,
    silence_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    before jsonb,
    after jsonb NOT NULL,
    CONSTRAINT silence_audit_action_check CHECK ((action = ANY (ARRAY['created'::text, 'edited'::text, 'expired'::text, 'replaced'::text]))),
    CONSTRAINT silence_audit_check CHECK (((before IS NULL) = (action = 'created'::text)))
);

ALTER TABLE public.silence_audit ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.silence_audit_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.silences (
    id uuid NOT NULL,
    sequence bigint NOT NULL,
    team text DEFAULT 'default'::text NOT NULL,
    matchers jsonb NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    recurrence jsonb,
    created_by text NOT NULL,
    comment text NOT NULL,
    annotations jsonb DEFAULT '{}'::jsonb NOT NULL,
    remind_before interval,
    remind_to text DEFAULT ''::text NOT NULL,
    replaces uuid,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT silences_check CHECK ((ends_at >= starts_at)),
    CONSTRAINT silences_remind_before_check CHECK (((remind_before IS NULL) OR (remind_before > '00:00:00'::interval)))
);

CREATE TABLE public.stream_progress (
    log_id text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    epoch bigint NOT NULL,
    applied bigint DEFAULT '-1'::integer NOT NULL,
    safe bigint DEFAULT '-1'::integer NOT NULL,
    config_version bigint DEFAULT 0 NOT NULL,
    watermark timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    received bigint DEFAULT 0 NOT NULL,
    new bigint DEFAULT 0 NOT NULL,
    changed bigint DEFAULT 0 NOT NULL,
    resolved bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    late bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    redelivered bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    causes bytea DEFAULT '\x'::bytea NOT NULL,
    CONSTRAINT stream_progress_check CHECK ((safe <= applied)),
    CONSTRAINT stream_progress_check1 CHECK ((received = ((((((new + changed) + resolved) + duplicate) + late) + rejected) + redelivered))),
    CONSTRAINT stream_progress_partition_check CHECK ((partition >= 0))
);

CREATE TABLE public.target_states (
    target text NOT NULL,
    process text NOT NULL,
    channel text NOT NULL,
    failures integer NOT NULL,
    paused_until timestamp with time zone,
    last_reason text NOT NULL,
    last_sent_at timestamp with time zone,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.timeline (
    incident_id uuid NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    event text NOT NULL,
    actor text NOT NULL,
    detail jsonb NOT NULL
);

CREATE TABLE public.users (
    name text NOT NULL,
    role text NOT NULL,
    teams text[],
    password_hash text NOT NULL,
    disabled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT users_check CHECK (((role <> 'admin'::text) OR (teams IS NULL))),
    CONSTRAINT users_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._@+-]{0,63}$'::text)),
    CONSTRAINT users_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'responder'::text, 'admin'::text]))),
    CONSTRAINT users_teams_check CHECK ((teams <> '{}'::text[]))
);

CREATE TABLE public.verdicts (
    log_id text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    verdict text NOT NULL,
    identity text,
    occurrence bigint,
    events integer NOT NULL,
    event_ids text[] NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    via text NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT verdicts_check CHECK (((verdict = 'rejected'::text) = (identity IS NULL))),
    CONSTRAINT verdicts_events_check CHECK ((events >= 1)),
    CONSTRAINT verdicts_verdict_check CHECK ((verdict = ANY (ARRAY['new'::text, 'changed'::text, 'resolved'::text, 'duplicate'::text, 'late'::text, 'rejected'::text])))
)
PARTITION BY RANGE (decided_at);

CREATE TABLE public.verdicts_other (
    log_id text CONSTRAINT verdicts_log_id_not_null NOT NULL,
    partition integer CONSTRAINT verdicts_partition_not_null NOT NULL,
    "offset" bigint CONSTRAINT verdicts_offset_not_null NOT NULL,
    verdict text CONSTRAINT verdicts_verdict_not_null NOT NULL,
    identity text,
    occurrence bigint,
    events integer CONSTRAINT verdicts_events_not_null NOT NULL,
    event_ids text[] CONSTRAINT verdicts_event_ids_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT verdicts_reason_not_null NOT NULL,
    via text CONSTRAINT verdicts_via_not_null NOT NULL,
    accepted_at timestamp with time zone CONSTRAINT verdicts_accepted_at_not_null NOT NULL,
    decided_at timestamp with time zone CONSTRAINT verdicts_decided_at_not_null NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT verdicts_committed_at_not_null NOT NULL,
    CONSTRAINT verdicts_check CHECK (((verdict = 'rejected'::text) = (identity IS NULL))),
    CONSTRAINT verdicts_events_check CHECK ((events >= 1)),
    CONSTRAINT verdicts_verdict_check CHECK ((verdict = ANY (ARRAY['new'::text, 'changed'::text, 'resolved'::text, 'duplicate'::text, 'late'::text, 'rejected'::text])))
);

ALTER TABLE ONLY public.decisions ATTACH PARTITION public.decisions_other DEFAULT;

ALTER TABLE ONLY public.verdicts ATTACH PARTITION public.verdicts_other DEFAULT;

ALTER TABLE ONLY public.actions
    ADD CONSTRAINT actions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (identity, occurrence);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_hash_key UNIQUE (hash);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY public.channel_memory
    ADD CONSTRAINT channel_memory_pkey PRIMARY KEY (incident_id, receiver, integration);

ALTER TABLE ONLY public.config_versions
    ADD CONSTRAINT config_versions_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT decisions_pkey PRIMARY KEY (group_key, seq, decided_at);

ALTER TABLE ONLY public.decisions_other
    ADD CONSTRAINT decisions_other_pkey PRIMARY KEY (group_key, seq, decided_at);

ALTER TABLE ONLY public.directory
    ADD CONSTRAINT directory_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (group_key);

ALTER TABLE ONLY public.heartbeat_watch
    ADD CONSTRAINT heartbeat_watch_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.heartbeats
    ADD CONSTRAINT heartbeats_pkey PRIMARY KEY (team, name);

ALTER TABLE ONLY public.incident_alerts
    ADD CONSTRAINT incident_alerts_pkey PRIMARY KEY (incident_id, identity, occurrence);

ALTER TABLE ONLY public.incidents
    ADD CONSTRAINT incidents_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.job_files
    ADD CONSTRAINT job_files_pkey PRIMARY KEY (run_id, part);

ALTER TABLE ONLY public.job_log
    ADD CONSTRAINT job_log_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY public.job_runs
    ADD CONSTRAINT job_runs_job_slot_at_key UNIQUE (job, slot_at);

ALTER TABLE ONLY public.job_runs
    ADD CONSTRAINT job_runs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.jobs_applied
    ADD CONSTRAINT jobs_applied_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.kept_answers
    ADD CONSTRAINT kept_answers_pkey PRIMARY KEY (actor, key);

ALTER TABLE ONLY public.log_lives
    ADD CONSTRAINT log_lives_pkey PRIMARY KEY (log_id);

ALTER TABLE ONLY public.login_failures
    ADD CONSTRAINT login_failures_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.notification_tasks
    ADD CONSTRAINT notification_tasks_incident_id_decision_receiver_integratio_key UNIQUE (incident_id, decision, receiver, integration);

ALTER TABLE ONLY public.notification_tasks
    ADD CONSTRAINT notification_tasks_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.partition_rules
    ADD CONSTRAINT partition_rules_pkey PRIMARY KEY (partition, key);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (hash);

ALTER TABLE ONLY public.silence_audit
    ADD CONSTRAINT silence_audit_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY public.silences
    ADD CONSTRAINT silences_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.silences
    ADD CONSTRAINT silences_sequence_key UNIQUE (sequence);

ALTER TABLE ONLY public.stream_progress
    ADD CONSTRAINT stream_progress_pkey PRIMARY KEY (log_id, topic, partition);

ALTER TABLE ONLY public.target_states
    ADD CONSTRAINT target_states_pkey PRIMARY KEY (target, process);

ALTER TABLE ONLY public.timeline
    ADD CONSTRAINT timeline_pkey PRIMARY KEY (incident_id, seq);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (name);

CREATE INDEX actions_by_incident ON public.actions USING btree (incident_id, decided_at);

CREATE INDEX actions_by_time ON public.actions USING btree (decided_at);

CREATE INDEX alerts_by_fingerprint ON public.alerts USING btree (fingerprint);

CREATE INDEX alerts_by_partition ON public.alerts USING btree (partition, identity, occurrence DESC);

CREATE INDEX alerts_firing ON public.alerts USING btree (team, starts_at) WHERE (status = 'firing'::text);

CREATE INDEX alerts_over ON public.alerts USING btree (ends_at) WHERE (status = 'resolved'::text);

CREATE UNIQUE INDEX api_tokens_by_name ON public.api_tokens USING btree (name) WHERE (revoked_at IS NULL);

CREATE INDEX audit_log_by_actor ON public.audit_log USING btree (actor, seq);

CREATE INDEX dead_letters_waiting ON public.dead_letters USING btree (received_at DESC) WHERE (state = 'waiting'::text);

CREATE INDEX decisions_by_alert ON ONLY public.decisions USING btree (identity);

CREATE INDEX decisions_by_incident ON ONLY public.decisions USING btree (incident_id);

CREATE INDEX decisions_other_identity_idx ON public.decisions_other USING btree (identity);

CREATE INDEX decisions_other_incident_id_idx ON public.decisions_other USING btree (incident_id);

CREATE INDEX groups_by_partition ON public.groups USING btree (partition);

CREATE INDEX heartbeats_untold ON public.heartbeats USING btree (changed_at) WHERE (NOT told);

CREATE INDEX incident_alerts_by_alert ON public.incident_alerts USING btree (identity, occurrence);

CREATE INDEX incident_alerts_members ON public.incident_alerts USING btree (partition) WHERE (state IS NOT NULL);

CREATE INDEX incidents_by_assignee ON public.incidents USING btree (assignee) WHERE (assignee <> ''::text);

CREATE INDEX incidents_by_change ON public.incidents USING btree (updated_at DESC, id);

CREATE INDEX incidents_by_commit ON public.incidents USING btree (committed_at);

CREATE INDEX incidents_by_creation ON public.incidents USING btree (created_at DESC, id);

CREATE INDEX incidents_by_group ON public.incidents USING btree (group_key);

CREATE INDEX incidents_by_parent ON public.incidents USING btree (parent_id) WHERE (parent_id IS NOT NULL);

CREATE INDEX incidents_of_the_canary ON public.incidents USING btree (updated_at) WHERE (route = '(canary)'::text);

CREATE UNIQUE INDEX incidents_one_open_per_group ON public.incidents USING btree (group_key) WHERE ((status)::text = ANY ((ARRAY['open'::character varying, 'acknowledged'::character varying])::text[]));

CREATE INDEX job_log_by_run ON public.job_log USING btree (run_id, seq);

CREATE INDEX job_runs_by_creation ON public.job_runs USING btree (created_at DESC, id);

CREATE INDEX job_runs_by_job ON public.job_runs USING btree (job, created_at DESC, id);

CREATE UNIQUE INDEX job_runs_one_at_a_time ON public.job_runs USING btree (job) WHERE (state = ANY (ARRAY['due'::text, 'running'::text]));

CREATE INDEX job_runs_open ON public.job_runs USING btree (due_at) WHERE (state = ANY (ARRAY['due'::text, 'running'::text]));

CREATE INDEX jobs_due ON public.jobs USING btree (next_at) WHERE (paused_at IS NULL);

CREATE INDEX kept_answers_by_age ON public.kept_answers USING btree (created_at);

CREATE INDEX notification_tasks_by_digest ON public.notification_tasks USING btree (digest_id) WHERE (digest_id IS NOT NULL);

CREATE INDEX notification_tasks_by_incident ON public.notification_tasks USING btree (incident_id);

CREATE INDEX notification_tasks_by_notice ON public.notification_tasks USING btree (notice_id);

CREATE INDEX notification_tasks_folded ON public.notification_tasks USING btree (digest_id) WHERE (state = 'folded'::text);

CREATE INDEX notification_tasks_held ON public.notification_tasks USING btree (receiver, integration) WHERE (state = 'due'::text);

CREATE INDEX notification_tasks_open ON public.notification_tasks USING btree (urgency, due_at) WHERE (state = ANY (ARRAY['due'::text, 'sending'::text]));

CREATE INDEX notification_tasks_order ON public.notification_tasks USING btree (incident_id, target, decision) WHERE (state = ANY (ARRAY['due'::text, 'sending'::text, 'folded'::text]));

CREATE INDEX notification_tasks_over ON public.notification_tasks USING btree (finished_at) WHERE ((finished_at IS NOT NULL) AND told_group);

CREATE INDEX notification_tasks_untold ON public.notification_tasks USING btree (finished_at) WHERE ((finished_at IS NOT NULL) AND (NOT told_group));

CREATE INDEX sessions_by_end ON public.sessions USING btree (expires_at);

CREATE INDEX sessions_by_user ON public.sessions USING btree (user_name);

CREATE INDEX silence_audit_by_silence ON public.silence_audit USING btree (silence_id, seq);

CREATE INDEX silences_by_end ON public.silences USING btree (ends_at DESC, id);

CREATE INDEX verdicts_by_alert ON ONLY public.verdicts USING btree (identity, occurrence);

CREATE INDEX verdicts_by_time ON ONLY public.verdicts USING brin (decided_at);

CREATE INDEX verdicts_other_decided_at_idx ON public.verdicts_other USING brin (decided_at);

CREATE INDEX verdicts_rejected ON ONLY public.verdicts USING btree ((event_ids[1])) WHERE (verdict = 'rejected'::text);

CREATE INDEX verdicts_other_event_ids_idx ON public.verdicts_other USING btree ((event_ids[1])) WHERE (verdict = 'rejected'::text);

CREATE INDEX verdicts_other_identity_occurrence_idx ON public.verdicts_other USING btree (identity, occurrence);

ALTER INDEX public.decisions_by_alert ATTACH PARTITION public.decisions_other_identity_idx;

ALTER INDEX public.decisions_by_incident ATTACH PARTITION public.decisions_other_incident_id_idx;

ALTER INDEX public.decisions_pkey ATTACH PARTITION public.decisions_other_pkey;

ALTER INDEX public.verdicts_by_time ATTACH PARTITION public.verdicts_other_decided_at_idx;

ALTER INDEX public.verdicts_rejected ATTACH PARTITION public.verdicts_other_event_ids_idx;

ALTER INDEX public.verdicts_by_alert ATTACH PARTITION public.verdicts_other_identity_occurrence_idx;

CREATE TRIGGER actions_are_kept BEFORE DELETE OR UPDATE ON public.actions FOR EACH ROW EXECUTE FUNCTION public.refuse_change('decided_at');

CREATE TRIGGER audit_log_is_kept BEFORE DELETE OR UPDATE ON public.audit_log FOR EACH ROW EXECUTE FUNCTION public.refuse_change('at');

CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER silence_audit_is_kept BEFORE DELETE OR UPDATE ON public.silence_audit FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER timeline_is_kept BEFORE DELETE OR UPDATE ON public.timeline FOR EACH ROW EXECUTE FUNCTION public.keep_timeline();

ALTER TABLE ONLY public.channel_memory
    ADD CONSTRAINT channel_memory_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES public.incidents(id);

ALTER TABLE ONLY public.incident_alerts
    ADD CONSTRAINT incident_alerts_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES public.incidents(id);

ALTER TABLE ONLY public.incidents
    ADD CONSTRAINT incidents_predecessor_id_fkey FOREIGN KEY (predecessor_id) REFERENCES public.incidents(id);

ALTER TABLE ONLY public.job_files
    ADD CONSTRAINT job_files_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.job_runs(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_log
    ADD CONSTRAINT job_log_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.job_runs(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.notices
    ADD CONSTRAINT notices_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES public.incidents(id);

ALTER TABLE ONLY public.notification_tasks
    ADD CONSTRAINT notification_tasks_digest_id_fkey FOREIGN KEY (digest_id) REFERENCES public.notification_tasks(id);

ALTER TABLE ONLY public.notification_tasks
    ADD CONSTRAINT notification_tasks_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES public.incidents(id);

ALTER TABLE ONLY public.notification_tasks
    ADD CONSTRAINT notification_tasks_notice_id_fkey FOREIGN KEY (notice_id) REFERENCES public.notices(id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_user_name_fkey FOREIGN KEY (user_name) REFERENCES public.users(name);

ALTER TABLE ONLY public.silence_audit
    ADD CONSTRAINT silence_audit_silence_id_fkey FOREIGN KEY (silence_id) REFERENCES public.silences(id);

ALTER TABLE ONLY public.silences
    ADD CONSTRAINT silences_replaces_fkey FOREIGN KEY (replaces) REFERENCES public.silences(id);

ALTER TABLE ONLY public.stream_progress
    ADD CONSTRAINT stream_progress_log_id_fkey FOREIGN KEY (log_id) REFERENCES public.log_lives(log_id);

ALTER TABLE ONLY public.timeline
    ADD CONSTRAINT timeline_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES public.incidents(id);
