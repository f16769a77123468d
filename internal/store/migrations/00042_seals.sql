-- The marks that servers are sealed: they lend nothing and hold no key until the mark is lifted by somebody who has the root key. The newest
-- counts; unsealed_at is 0 while it is in force. proof is a MAC under a data key, by which a server that stands sealed knows that it was.
CREATE TABLE keyring_seals (
	id          TEXT PRIMARY KEY,
	sealed_at   BIGINT NOT NULL,
	sealed_by   TEXT NOT NULL,
	reason      TEXT NOT NULL,
	unsealed_at BIGINT NOT NULL DEFAULT 0,
	proof       {{.Blob}}
);
-- One at a time.
CREATE UNIQUE INDEX keyring_seals_in_force ON keyring_seals (unsealed_at) WHERE unsealed_at = 0;
