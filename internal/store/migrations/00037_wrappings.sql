-- A root key as keepers hold it: wrapped by a key that a key management service has and never gives away. One row a root key and keeper, so that
-- an old and a new wrapping can stand beside each other while the instances move from one to the other.
CREATE TABLE keyring_wrappings (
	root_key_id TEXT NOT NULL,
	keeper      TEXT NOT NULL,
	key_version TEXT NOT NULL,
	wrapped     {{.Blob}} NOT NULL,
	created_at  BIGINT NOT NULL,
	wrapped_at  BIGINT NOT NULL,
	PRIMARY KEY (root_key_id, keeper)
);
