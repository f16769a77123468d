-- The secret of a person's authenticator app, sealed. It counts once a code has confirmed it; last_step is the time step of the last code
-- that was taken, so that none is taken twice.
CREATE TABLE totp_secrets (
	user_id      TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	sealed       {{.Blob}} NOT NULL,
	last_step    BIGINT NOT NULL,
	created_at   BIGINT NOT NULL,
	confirmed_at BIGINT
);

-- Codes that stand in for a lost factor, by hash. A used one stays until the next set is made.
CREATE TABLE recovery_codes (
	user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	hash       {{.Blob}} NOT NULL,
	created_at BIGINT NOT NULL,
	used_at    BIGINT,
	PRIMARY KEY (user_id, hash)
);

-- Passkeys (WebAuthn). sealed holds the public key and what the authenticator said of itself, bound to the row and its person, so that who can
-- write to the database cannot plant one. suspect says since when its signature counter has pointed at a copy.
CREATE TABLE passkeys (
	id            TEXT PRIMARY KEY,
	user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	credential_id {{.Blob}} NOT NULL UNIQUE,
	name          TEXT NOT NULL,
	sealed        {{.Blob}} NOT NULL,
	sign_count    BIGINT NOT NULL,
	created_at    BIGINT NOT NULL,
	last_used_at  BIGINT,
	suspect_at    BIGINT
);
CREATE INDEX passkeys_user ON passkeys (user_id, id);

-- Challenges that browsers were given and have not answered, by hash. Each is answered once. source is a keyed hash of the address.
CREATE TABLE passkey_challenges (
	hash       {{.Blob}} PRIMARY KEY,
	purpose    TEXT NOT NULL,
	session_id TEXT NOT NULL,
	source     TEXT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX passkey_challenges_source ON passkey_challenges (source, expires_at);
CREATE INDEX passkey_challenges_expires ON passkey_challenges (expires_at);

-- The roles whose people must have a second factor.
CREATE TABLE factor_demands (
	role TEXT PRIMARY KEY
);
INSERT INTO identity_locks (name) VALUES ('factor_demands');
