-- Who may: users, their sessions, API tokens, failed logins, what everybody did, and answers kept for repeated requests.

-- A person. `teams` NULL: all of them.
CREATE TABLE users (
    name          text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._@+-]{0,63}$'),
    role          text NOT NULL CHECK (role IN ('viewer', 'responder', 'admin')),
    teams         text[] CHECK (teams <> '{}'),
    password_hash text NOT NULL,
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (role <> 'admin' OR teams IS NULL)
);

-- One login that goes on; `hash` is SHA-256 of the secret in the cookie.
CREATE TABLE sessions (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    user_name  text NOT NULL REFERENCES users,
    address    text NOT NULL,
    agent      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_name);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- A program's credential; `hash` is SHA-256 of it.
CREATE TABLE api_tokens (
    id           uuid PRIMARY KEY,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes       text[] NOT NULL CHECK (scopes <> '{}' AND scopes <@ ARRAY['ingest', 'read', 'act', 'admin']),
    teams        text[] CHECK (teams <> '{}'),
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CHECK (NOT 'admin' = ANY (scopes) OR teams IS NULL)
);
CREATE UNIQUE INDEX api_tokens_by_name ON api_tokens (name) WHERE revoked_at IS NULL;

-- Wrong passwords, by account, by address, and by both; shared by all gateways.
CREATE TABLE login_failures (
    key      text PRIMARY KEY,
    failures int NOT NULL,
    last_at  timestamptz NOT NULL
);

-- Who did what to which object, from where, when, and how it ended: rows are only added.
CREATE TABLE audit_log (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    actor_kind text NOT NULL,
    address    text NOT NULL,
    action     text NOT NULL,
    object     text NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_by_actor ON audit_log (actor, seq);
CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Answers to requests with an Idempotency-Key: a repeat is answered the same. A `status` of NULL is under way.
CREATE TABLE kept_answers (
    actor        text NOT NULL,
    key          text NOT NULL,
    request      bytea NOT NULL,
    status       int,
    content_type text NOT NULL DEFAULT '',
    body         bytea NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (actor, key)
);
CREATE INDEX kept_answers_by_age ON kept_answers (created_at);
