-- A replay takes the place of the verdict "rejected": that row is found by its event id.

CREATE INDEX verdicts_rejected ON verdicts ((event_ids[1])) WHERE verdict = 'rejected';
