-- The bridge's roles, made once by a superuser of the server:
--   SERVICE_PASSWORD=… OWNER_PASSWORD=… psql --set ON_ERROR_STOP=1 < roles.sql
-- `bridge_owner` owns the tables and is used by `bridge db upgrade` and `bridge db restore` alone. `bridge` is the
-- services': it reads and writes rows, and can neither change nor drop a table.
\set service_password `printenv SERVICE_PASSWORD`
\set owner_password `printenv OWNER_PASSWORD`
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';
CREATE ROLE bridge_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE bridge LOGIN PASSWORD :'service_password';
-- Whether a standby is synchronous: without this, a server shows its standbys and not how they are.
GRANT pg_read_all_stats TO bridge;
