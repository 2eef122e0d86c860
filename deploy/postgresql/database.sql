-- A database for the bridge, made by a superuser of the server, behind roles.sql:
--   psql --set ON_ERROR_STOP=1 < database.sql
-- and one to restore a copy into, beside the other: psql --set ON_ERROR_STOP=1 --set database=bridge_again < database.sql
\if :{?database}
\else
    \set database bridge
\endif
CREATE DATABASE :"database" OWNER bridge_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO bridge;
\connect :"database"
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO bridge_owner;
GRANT USAGE ON SCHEMA public TO bridge;
-- What `bridge_owner` makes, now and at each upgrade. pg_dump (`bridge db backup`) reads sequences too.
ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bridge;
ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO bridge;
