-- How far each partition of incident-inputs has heard of each partition of alerts: what is older came before.

ALTER TABLE stream_progress ADD COLUMN causes bytea NOT NULL DEFAULT '';
