-- Where people sign in elsewhere. settings is JSON: what is looked at as a whole; sealed is the client secret, or null.
CREATE TABLE sso_providers (
	id         TEXT PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE,
	enabled    BIGINT NOT NULL,
	settings   TEXT NOT NULL,
	sealed     {{.Blob}},
	version    BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);

-- Who somebody is at an issuer. It names the issuer and not the provider: a provider may be deleted and made again, or made to be another.
CREATE TABLE sso_links (
	issuer     TEXT NOT NULL,
	subject    TEXT NOT NULL,
	user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (issuer, subject)
);
CREATE UNIQUE INDEX sso_links_user ON sso_links (user_id, issuer);

-- Sign-ins that have begun. A row goes when its answer comes, whatever that is. hash is that of the state, browser that of the cookie; with both
-- the nonce and the PKCE verifier can be made again, so that no secret lies here.
CREATE TABLE sso_states (
	hash         {{.Blob}} PRIMARY KEY,
	browser      {{.Blob}} NOT NULL,
	provider_id  TEXT NOT NULL REFERENCES sso_providers (id) ON DELETE CASCADE,
	session_id   TEXT NOT NULL,
	redirect_uri TEXT NOT NULL,
	next         TEXT NOT NULL,
	source       TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL
);
CREATE INDEX sso_states_expires ON sso_states (expires_at);
CREATE INDEX sso_states_source ON sso_states (source);

INSERT INTO identity_locks (name) VALUES ('sso');
