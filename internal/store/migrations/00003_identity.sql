CREATE TABLE users (
	id            TEXT PRIMARY KEY,
	email         TEXT NOT NULL UNIQUE,
	name          TEXT NOT NULL,
	role          TEXT NOT NULL,
	password_hash TEXT NOT NULL,
	active        BIGINT NOT NULL,
	created_at    BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL
);

CREATE TABLE tokens (
	id           TEXT PRIMARY KEY,
	user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	name         TEXT NOT NULL,
	preview      TEXT NOT NULL,
	hash         {{.Blob}} NOT NULL UNIQUE,
	scopes       TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	last_used_at BIGINT,
	expires_at   BIGINT,
	revoked_at   BIGINT
);
CREATE INDEX tokens_user ON tokens (user_id, id);

CREATE TABLE setup_links (
	id         TEXT PRIMARY KEY,
	hash       {{.Blob}} NOT NULL UNIQUE,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);

CREATE TABLE client_keys (
	id           TEXT PRIMARY KEY,
	train_id     TEXT NOT NULL,
	name         TEXT NOT NULL,
	preview      TEXT NOT NULL,
	hash         {{.Blob}} NOT NULL UNIQUE,
	created_by   TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	last_used_at BIGINT,
	expires_at   BIGINT,
	revoked_at   BIGINT,
	replaced_by  TEXT
);
CREATE INDEX client_keys_train ON client_keys (train_id, id);

-- Rows that a transaction locks before it counts: what may exist only so many times is counted under its lock.
CREATE TABLE identity_locks (
	name TEXT PRIMARY KEY
) {{.Lean}};
INSERT INTO identity_locks (name) VALUES ('administrator'), ('client_keys');
