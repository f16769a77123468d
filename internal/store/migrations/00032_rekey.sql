-- A data key is incoming until every instance knows it, then active, then retired while what it sealed is sealed anew, then leaving while nothing
-- can be stored under it any more, and then gone: its row stays without the key, so that no number comes twice. seals counts what it has sealed.
DROP INDEX keyring_keys_one_active;
ALTER TABLE keyring_keys RENAME TO keyring_keys_before;
CREATE TABLE keyring_keys (
	version     BIGINT NOT NULL,
	root_key_id TEXT NOT NULL,
	wrapped     {{.Blob}} NOT NULL,
	created_at  BIGINT NOT NULL,
	state       TEXT NOT NULL CHECK (state IN ('incoming', 'active', 'retired', 'leaving', 'gone')),
	seals       BIGINT NOT NULL DEFAULT 0,
	CONSTRAINT keyring_versions_pk PRIMARY KEY (version)
);
INSERT INTO keyring_keys (version, root_key_id, wrapped, created_at, state) SELECT version, root_key_id, wrapped, created_at, state FROM keyring_keys_before;
DROP TABLE keyring_keys_before;
CREATE UNIQUE INDEX keyring_keys_one_active ON keyring_keys (state) WHERE state = 'active';

-- Data keys wrapped by a second root key, while instances change from one to the other.
CREATE TABLE keyring_wraps (
	version     BIGINT NOT NULL,
	root_key_id TEXT NOT NULL,
	wrapped     {{.Blob}} NOT NULL,
	PRIMARY KEY (version, root_key_id)
);

-- The versions under which nothing may be stored any more, as they stand in an envelope. Triggers on every sealed column look here, as a foreign
-- key would: an instance that has slept through the change must not store what nobody could open.
CREATE TABLE keyring_left (
	tag     {{.Blob}} NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL UNIQUE
);

-- How each change of the data key went, at most one of them unfinished (finished_at 0). Its holder works on it until a time that each step
-- prolongs; the epoch fences off holders before.
CREATE TABLE rekeys (
	id          TEXT PRIMARY KEY,
	to_version  BIGINT NOT NULL,
	state       TEXT NOT NULL CHECK (state IN ('announced', 'moving', 'leaving', 'done')),
	total       BIGINT NOT NULL,
	moved       BIGINT NOT NULL,
	remaining   BIGINT NOT NULL,
	unreadable  BIGINT NOT NULL,
	give_up     BIGINT NOT NULL,
	holder      TEXT NOT NULL,
	epoch       BIGINT NOT NULL,
	until       BIGINT NOT NULL,
	started_at  BIGINT NOT NULL,
	since       BIGINT NOT NULL,
	finished_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX rekeys_one ON rekeys (finished_at) WHERE finished_at = 0;

-- The key that signs checkpoints stays what it is; only its seal may become another.
{{if .Postgres}}
DROP TRIGGER audit_signers_immutable ON audit_signers;
CREATE TRIGGER audit_signers_immutable BEFORE UPDATE OF id, verifier, created_at OR DELETE OR TRUNCATE ON audit_signers FOR EACH STATEMENT EXECUTE FUNCTION signalbox_immutable();
{{else}}
DROP TRIGGER audit_signers_no_update;
CREATE TRIGGER audit_signers_no_update BEFORE UPDATE OF id, verifier, created_at ON audit_signers BEGIN SELECT RAISE(ABORT, 'audit records are immutable'); END;
{{end}}

{{.Fence "credential_secrets" "sealed" 2}}
{{.Fence "credentials" "notes" 2}}
{{.Fence "credentials" "binding" 2}}
{{.Fence "oauth_connections" "mark" 1}}
{{.Fence "oauth_providers" "secret" 2}}
{{.Fence "oauth_providers" "binding" 1}}
{{.Fence "oauth_flows" "sealed" 2}}
{{.Fence "notify_channels" "sealed" 2}}
{{.Fence "idempotency_keys" "answer" 2}}
{{.Fence "jwt_keys" "sealed" 2}}
{{.Fence "jwt_issuers" "sealed" 2}}
{{.Fence "sso_providers" "sealed" 2}}
{{.Fence "totp_secrets" "sealed" 2}}
{{.Fence "passkeys" "sealed" 2}}
{{.Fence "audit_signers" "sealed" 2}}
