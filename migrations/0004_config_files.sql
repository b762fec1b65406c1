-- A rules file is kept with the contents of the files that it names, so that every process reads it from here.

-- Templates by pattern and path, secrets and certificates by path: {"templates": {...}, "secrets": {...}}.
ALTER TABLE config_versions ADD COLUMN files json NOT NULL DEFAULT '{}';
