-- Batches and files that trains made at upstreams, with the account on which each one lies.
CREATE TABLE upstream_objects (
	train_id      TEXT NOT NULL REFERENCES trains (id) ON DELETE CASCADE,
	kind          TEXT NOT NULL,
	id            TEXT NOT NULL,
	credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	key_id        TEXT NOT NULL,
	created_at    BIGINT NOT NULL,
	PRIMARY KEY (train_id, kind, id),
	UNIQUE (credential_id, kind, id)
);
CREATE INDEX upstream_objects_newest ON upstream_objects (train_id, kind, created_at, id);
