CREATE TABLE trains (
	id          TEXT PRIMARY KEY,
	slug        TEXT NOT NULL UNIQUE,
	name        TEXT NOT NULL,
	description TEXT NOT NULL,
	strategy    TEXT NOT NULL,
	disabled    BIGINT NOT NULL,
	key_limit   BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL,
	revision    BIGINT NOT NULL
);

CREATE TABLE train_links (
	train_id      TEXT NOT NULL REFERENCES trains (id) ON DELETE CASCADE,
	credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	alias         TEXT,
	priority      BIGINT NOT NULL,
	created_at    BIGINT NOT NULL,
	PRIMARY KEY (train_id, credential_id),
	UNIQUE (train_id, alias)
);
CREATE INDEX train_links_credential ON train_links (credential_id);

CREATE TABLE cool_downs (
	credential_id TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
	version       BIGINT NOT NULL,
	until         BIGINT NOT NULL,
	status        BIGINT NOT NULL,
	reason        TEXT NOT NULL,
	at            BIGINT NOT NULL
);
