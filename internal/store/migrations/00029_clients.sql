-- What credentials belong to: clients (customers), services (applications of theirs, or of the house) and infrastructure (hosts, networks, devices).
-- Until now credentials and grants named them by any text. Each such text becomes the id and the name of one, so that what was written keeps its
-- meaning, its grants and its MAC (client_id and the others are in the binding of a credential, and a migration knows no key).
CREATE TABLE clients (
	id          TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 100),
	name        TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
	description TEXT NOT NULL CHECK (length(description) <= 2000),
	contact     TEXT NOT NULL CHECK (length(contact) <= 500),
	search      TEXT NOT NULL,
	revision    BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX clients_name ON clients (name);

CREATE TABLE services (
	id          TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 100),
	name        TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
	description TEXT NOT NULL CHECK (length(description) <= 2000),
	client_id   TEXT REFERENCES clients (id),
	url         TEXT NOT NULL CHECK (length(url) <= 2048),
	search      TEXT NOT NULL,
	revision    BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX services_name ON services (COALESCE(client_id, ''), name);

CREATE TABLE infrastructure (
	id          TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 100),
	name        TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
	description TEXT NOT NULL CHECK (length(description) <= 2000),
	client_id   TEXT REFERENCES clients (id),
	kind        TEXT NOT NULL CHECK (kind IN ('host', 'network', 'device')),
	address     TEXT NOT NULL CHECK (length(address) <= 255),
	search      TEXT NOT NULL,
	revision    BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX infrastructure_name ON infrastructure (COALESCE(client_id, ''), name);

CREATE INDEX credentials_of_infrastructure ON credentials (infrastructure_id, id) WHERE infrastructure_id <> '';

INSERT INTO clients (id, name, description, contact, search, revision, created_at, updated_at)
	SELECT x.id, x.id, '', '', LOWER(x.id), 1, MIN(x.at), MIN(x.at)
	FROM (SELECT client_id AS id, created_at AS at FROM credentials WHERE client_id <> '' UNION ALL SELECT scope_id, granted_at FROM grants WHERE scope = 'client') AS x
	GROUP BY x.id;
INSERT INTO services (id, name, description, url, search, revision, created_at, updated_at)
	SELECT x.id, x.id, '', '', LOWER(x.id), 1, MIN(x.at), MIN(x.at)
	FROM (SELECT service_id AS id, created_at AS at FROM credentials WHERE service_id <> '' UNION ALL SELECT scope_id, granted_at FROM grants WHERE scope = 'service') AS x
	GROUP BY x.id;
INSERT INTO infrastructure (id, name, description, kind, address, search, revision, created_at, updated_at)
	SELECT c.infrastructure_id, c.infrastructure_id, '', 'host', '', LOWER(c.infrastructure_id), 1, MIN(c.created_at), MIN(c.created_at)
	FROM credentials c WHERE c.infrastructure_id <> '' GROUP BY c.infrastructure_id;
