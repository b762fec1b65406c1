#!/bin/sh
# Postgres runs this once, when it makes its data folder: the login of the roles, which is no superuser. What it may
# do, `incidents migrate --roles` grants.
set -eu
psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 -v password="$APP_PASSWORD" -U postgres -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE incidents_app NOLOGIN;
CREATE ROLE incidents LOGIN PASSWORD :'password' IN ROLE incidents_app;
SQL
