-- Who this installation is when it issues tokens and has no public URL.
CREATE TABLE installations (
	id         TEXT PRIMARY KEY,
	created_at BIGINT NOT NULL
);

-- The keys that sign our own tokens. sealed holds the private key and, of a retired key, the public one alone.
CREATE TABLE jwt_keys (
	id         TEXT PRIMARY KEY,
	state      TEXT NOT NULL CHECK (state IN ('next', 'active', 'retired')),
	sealed     {{.Blob}} NOT NULL,
	created_at BIGINT NOT NULL,
	since      BIGINT NOT NULL
);
CREATE UNIQUE INDEX jwt_keys_one_each ON jwt_keys (state) WHERE state <> 'retired';

-- The refresh tokens of sessions of kind api. Used ones stay as long as their session, so that one that comes again is known.
CREATE TABLE refresh_tokens (
	id         TEXT PRIMARY KEY,
	session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	hash       {{.Blob}} NOT NULL UNIQUE,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	used_at    BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- Outside issuers whose tokens are accepted. An empty iss or aud was waived by name. Keys come from jwks_url or are the sealed secret.
CREATE TABLE jwt_issuers (
	id            TEXT PRIMARY KEY,
	name          TEXT NOT NULL UNIQUE,
	iss           TEXT NOT NULL,
	aud           TEXT NOT NULL,
	jwks_url      TEXT NOT NULL,
	sealed        {{.Blob}},
	algorithms    TEXT NOT NULL,
	subject_claim TEXT NOT NULL,
	subject_form  TEXT NOT NULL,
	subject_is    TEXT NOT NULL,
	scopes        TEXT NOT NULL,
	max_life      BIGINT NOT NULL,
	active        BIGINT NOT NULL,
	version       BIGINT NOT NULL,
	created_at    BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL
);

CREATE TABLE jwt_subjects (
	issuer_id TEXT NOT NULL REFERENCES jwt_issuers (id) ON DELETE CASCADE,
	subject   TEXT NOT NULL,
	user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	PRIMARY KEY (issuer_id, subject)
);
CREATE INDEX jwt_subjects_user ON jwt_subjects (user_id);

INSERT INTO identity_locks (name) VALUES ('jwt_keys'), ('jwt_issuers');
