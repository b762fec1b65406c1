-- Notices name the rules that made them instead of carrying their secrets; digests speak for what was folded;
-- what channels remember of earlier notices, and how each target answers, can be read.

ALTER TABLE notification_tasks ADD COLUMN config_version bigint NOT NULL DEFAULT 0;
UPDATE notification_tasks SET config_version = (SELECT coalesce(max(version), 0) FROM config_versions)
WHERE state IN ('due', 'sending');
ALTER TABLE notification_tasks DROP COLUMN options;

-- 0 is the most urgent: the incident's severity when the notice was made.
ALTER TABLE notification_tasks ADD COLUMN urgency smallint NOT NULL DEFAULT 4 CHECK (urgency BETWEEN 0 AND 4);

-- A digest is a task of no incident; `digest_id` names the digest that speaks for a task.
ALTER TABLE notification_tasks ADD COLUMN digest_id uuid REFERENCES notification_tasks;
ALTER TABLE notification_tasks ALTER COLUMN incident_id DROP NOT NULL;
ALTER TABLE notices ALTER COLUMN incident_id DROP NOT NULL;
ALTER TABLE notification_tasks DROP CONSTRAINT notification_tasks_state_check;
ALTER TABLE notification_tasks ADD CONSTRAINT notification_tasks_state_check
    CHECK (state IN ('due', 'sending', 'folded', 'sent', 'digested', 'failed'));
ALTER TABLE notification_tasks DROP CONSTRAINT notification_tasks_check;
ALTER TABLE notification_tasks ADD CONSTRAINT notification_tasks_finished_check
    CHECK ((finished_at IS NOT NULL) = (state IN ('sent', 'digested', 'failed')));
ALTER TABLE notification_tasks ADD CONSTRAINT notification_tasks_digest_check
    CHECK (digest_id IS NOT NULL OR state NOT IN ('folded', 'digested'));

DROP INDEX notification_tasks_open;
CREATE INDEX notification_tasks_open ON notification_tasks (urgency, due_at) WHERE state IN ('due', 'sending');
DROP INDEX notification_tasks_order;
CREATE INDEX notification_tasks_order ON notification_tasks (incident_id, target, decision)
    WHERE state IN ('due', 'sending', 'folded');
CREATE INDEX notification_tasks_held ON notification_tasks (receiver, integration) WHERE state = 'due';
CREATE INDEX notification_tasks_folded ON notification_tasks (digest_id) WHERE state = 'folded';

-- What a channel keeps between two notices of one incident, such as the id of the message that it edits.
CREATE TABLE channel_memory (
    incident_id uuid NOT NULL REFERENCES incidents,
    receiver    text NOT NULL,
    integration int NOT NULL,
    memory      jsonb NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (incident_id, receiver, integration)
);

-- How each target answers, as each delivery process sees it.
CREATE TABLE target_states (
    target      text NOT NULL,
    process     text NOT NULL,
    channel     text NOT NULL,
    failures    int NOT NULL,
    paused_until timestamptz,
    last_reason text NOT NULL,
    last_sent_at timestamptz,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (target, process)
);
