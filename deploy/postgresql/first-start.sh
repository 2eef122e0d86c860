#!/bin/sh
# Run by PostgreSQL's image when its folder is new (/docker-entrypoint-initdb.d): roles and database of the bridge.
set -e
SERVICE_PASSWORD=$(cat /run/secrets/database-service)
OWNER_PASSWORD=$(cat /run/secrets/database-owner)
export SERVICE_PASSWORD OWNER_PASSWORD
for name in roles database; do
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" < /usr/share/cardio-bridge/$name.sql
done
unset SERVICE_PASSWORD OWNER_PASSWORD
