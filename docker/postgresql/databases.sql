-- Run once, when the volume is empty: a role and a database for each of the three that keep something here. A role owns its
-- own database and cannot even connect to another.
\set ON_ERROR_STOP on
\set mlflow_password `cat /run/secrets/mlflow_database_password`
\set prefect_password `cat /run/secrets/prefect_database_password`
\set records_password `sed -E 's#^postgresql://records:([^@]*)@.*#\1#' /run/secrets/records_uri`

CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE records LOGIN PASSWORD :'records_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE records OWNER records;
REVOKE ALL ON DATABASE mlflow, prefect, records, postgres, template1 FROM PUBLIC;

\connect prefect
CREATE EXTENSION pg_trgm; -- Prefect's indexes for searching need it
