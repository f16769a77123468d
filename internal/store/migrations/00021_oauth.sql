-- OAuth servers that an administrator added, and what one set on a server of the catalogue (its row has that one's name). settings is JSON; secret
-- is the sealed client secret, or null. binding is a keyed MAC over all the rest, since whoever could write a token endpoint here would be sent
-- refresh tokens.
CREATE TABLE oauth_providers (
	id         TEXT PRIMARY KEY,
	name       TEXT NOT NULL UNIQUE CHECK (length(name) <= 64),
	settings   TEXT NOT NULL,
	secret     {{.Blob}},
	revision   BIGINT NOT NULL,
	binding    {{.Blob}} NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);

-- Logins that have begun. state is the hash of what the provider hands back, null where nothing is handed back; sealed is everything else of the
-- login with its PKCE verifier or device code, and empty once it was used. The row stays until a day after its end, so that a second answer can be
-- told what it is.
CREATE TABLE oauth_flows (
	id         TEXT PRIMARY KEY,
	state      {{.Blob}} UNIQUE,
	owner      TEXT NOT NULL,
	sealed     {{.Blob}} NOT NULL,
	used_at    BIGINT,
	next_at    BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX oauth_flows_expires ON oauth_flows (expires_at);
CREATE INDEX oauth_flows_owner ON oauth_flows (owner);

-- What the tokens of a credential are for (RFC 8707), and by which grant they come when not by consent.
ALTER TABLE credentials ADD COLUMN oauth_resource TEXT NOT NULL DEFAULT '' CHECK (length(oauth_resource) <= 2048);
ALTER TABLE credentials ADD COLUMN oauth_grant TEXT NOT NULL DEFAULT '' CHECK (oauth_grant IN ('', 'client_credentials'));
