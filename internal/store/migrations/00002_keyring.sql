CREATE TABLE keyring_keys (
	version     BIGINT PRIMARY KEY,
	root_key_id TEXT NOT NULL,
	wrapped     {{.Blob}} NOT NULL,
	created_at  BIGINT NOT NULL,
	state       TEXT NOT NULL CHECK (state IN ('active', 'retired'))
);
CREATE UNIQUE INDEX keyring_keys_one_active ON keyring_keys (state) WHERE state = 'active';

CREATE TABLE keyring_checks (
	root_key_id TEXT PRIMARY KEY,
	sealed      {{.Blob}} NOT NULL
);
