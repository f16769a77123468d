-- When credentials were last used, by themselves: it is written every now and then, and a credential's row is wide and has a MAC.
CREATE TABLE credential_uses (
	credential_id TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
	last_used_at  BIGINT NOT NULL
);
