CREATE TABLE credentials (
	id                   TEXT PRIMARY KEY,
	type                 TEXT NOT NULL,
	name                 TEXT NOT NULL CHECK (length(name) <= 200),
	account_id           TEXT CHECK (length(account_id) <= 204),
	provider             TEXT NOT NULL CHECK (length(provider) <= 100),
	state                TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'compromised')),
	version              BIGINT NOT NULL,
	revision             BIGINT NOT NULL,
	description          TEXT NOT NULL CHECK (length(description) <= 2000),
	username             TEXT NOT NULL CHECK (length(username) <= 320),
	base_url             TEXT NOT NULL CHECK (length(base_url) <= 2048),
	external_url         TEXT NOT NULL CHECK (length(external_url) <= 2048),
	internal_url         TEXT NOT NULL CHECK (length(internal_url) <= 2048),
	port                 BIGINT NOT NULL,
	requires_vpn         BIGINT NOT NULL,
	requires_2fa         BIGINT NOT NULL,
	tags                 TEXT NOT NULL,
	hosts                TEXT NOT NULL,
	notes                {{.Blob}},
	notes_version        BIGINT NOT NULL,
	expires_at           BIGINT,
	rotate_every_days    BIGINT NOT NULL,
	owner                TEXT NOT NULL CHECK (length(owner) <= 200),
	client_id            TEXT NOT NULL CHECK (length(client_id) <= 100),
	service_id           TEXT NOT NULL CHECK (length(service_id) <= 100),
	infrastructure_id    TEXT NOT NULL CHECK (length(infrastructure_id) <= 100),
	plugin_name          TEXT NOT NULL CHECK (length(plugin_name) <= 100),
	oauth_scopes         TEXT NOT NULL,
	oauth_client_id      TEXT NOT NULL CHECK (length(oauth_client_id) <= 255),
	oauth_token_endpoint TEXT NOT NULL CHECK (length(oauth_token_endpoint) <= 2048),
	oauth_auth_method    TEXT NOT NULL CHECK (oauth_auth_method IN ('', 'client_secret_basic', 'client_secret_post', 'none')),
	oauth_format         TEXT NOT NULL CHECK (oauth_format IN ('', 'json', 'form')),
	search               TEXT NOT NULL,
	created_at           BIGINT NOT NULL,
	updated_at           BIGINT NOT NULL,
	last_rotated_at      BIGINT
);
CREATE UNIQUE INDEX credentials_account_id ON credentials (account_id) WHERE account_id IS NOT NULL;
CREATE UNIQUE INDEX credentials_account_name ON credentials (name) WHERE account_id IS NOT NULL;

CREATE TABLE credential_tags (
	credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	tag           TEXT NOT NULL CHECK (length(tag) <= 100),
	PRIMARY KEY (credential_id, tag)
) {{.Lean}};

CREATE TABLE credential_versions (
	credential_id    TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	version          BIGINT NOT NULL,
	fields           TEXT NOT NULL,
	suffix           TEXT NOT NULL,
	token_expires_at BIGINT,
	reason           TEXT NOT NULL CHECK (length(reason) <= 500),
	restored_from    BIGINT NOT NULL,
	created_by       TEXT NOT NULL,
	created_by_name  TEXT NOT NULL,
	created_at       BIGINT NOT NULL,
	PRIMARY KEY (credential_id, version)
);

CREATE TABLE credential_secrets (
	credential_id TEXT NOT NULL,
	version       BIGINT NOT NULL,
	field         TEXT NOT NULL CHECK (length(field) <= 64),
	sealed        {{.Blob}} NOT NULL,
	PRIMARY KEY (credential_id, version, field),
	FOREIGN KEY (credential_id, version) REFERENCES credential_versions (credential_id, version) ON DELETE CASCADE
);
