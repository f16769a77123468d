ALTER TABLE users ADD COLUMN last_login_at BIGINT;

-- One-time links by which a person sets a password: an invitation or a reset. A person has at most one.
CREATE TABLE user_links (
	id         TEXT PRIMARY KEY,
	user_id    TEXT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
	hash       {{.Blob}} NOT NULL UNIQUE,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);

-- Who is signed in. A row is removed when its session ends; the audit log tells of both. While demanded is not an empty list, one of the
-- proofs in it is still wanted and the session is good for nothing else.
CREATE TABLE sessions (
	id               TEXT PRIMARY KEY,
	user_id          TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	kind             TEXT NOT NULL,
	hash             {{.Blob}} NOT NULL UNIQUE,
	proofs           TEXT NOT NULL,
	demanded         TEXT NOT NULL,
	ip               TEXT NOT NULL,
	user_agent       TEXT NOT NULL,
	created_at       BIGINT NOT NULL,
	authenticated_at BIGINT NOT NULL,
	stepped_up_at    BIGINT NOT NULL,
	last_used_at     BIGINT NOT NULL,
	expires_at       BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id, id);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- Failed logins, by keyed hashes of addresses and of e-mail addresses, which need not be anybody's. at is when the count is forgotten
-- (addresses: when the last failure is worked off; accounts: when the last one happened).
CREATE TABLE login_failures (
	id       TEXT PRIMARY KEY,
	failures BIGINT NOT NULL,
	at       BIGINT NOT NULL
);
CREATE INDEX login_failures_at ON login_failures (at);

-- Where a person has signed in from, by keyed hashes of the person and the address.
CREATE TABLE familiar_addresses (
	id      TEXT PRIMARY KEY,
	user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	seen_at BIGINT NOT NULL
);
CREATE INDEX familiar_addresses_user ON familiar_addresses (user_id, seen_at);
