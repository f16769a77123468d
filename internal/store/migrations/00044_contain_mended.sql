-- The date of a rotation as it is asked for since there is rotate_at. Expression and condition are those of internal/vault/read.go: any others, and the index is not used.
DROP INDEX credentials_rotation;
CREATE INDEX credentials_rotation ON credentials ((CASE WHEN rotate_at IS NULL OR (rotate_every_days > 0 AND (COALESCE(last_rotated_at, created_at) + rotate_every_days * 86400000000) < rotate_at) THEN (COALESCE(last_rotated_at, created_at) + rotate_every_days * 86400000000) ELSE rotate_at END)) WHERE rotate_every_days > 0 OR rotate_at IS NOT NULL;

-- Tokens that are still to be replaced at their OAuth providers, since an incident was contained. They are no rows of incident_revocations, which an instance from before
-- 00039 would take for grants that are to be ended. A row goes when that is settled.
CREATE TABLE incident_refreshes (
	id            TEXT PRIMARY KEY,
	incident_id   TEXT NOT NULL,
	credential_id TEXT NOT NULL,
	name          TEXT NOT NULL,
	provider      TEXT NOT NULL,
	version       BIGINT NOT NULL,
	attempts      BIGINT NOT NULL,
	next_at       BIGINT NOT NULL,
	epoch         BIGINT NOT NULL,
	claim_until   BIGINT NOT NULL,
	created_at    BIGINT NOT NULL
);
CREATE INDEX incident_refreshes_next ON incident_refreshes (next_at);

-- Grants that a provider has ended since their credential was contained, by the version that had their tokens: containing it again owes no end that was had.
CREATE TABLE incident_ended (
	credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	version       BIGINT NOT NULL,
	PRIMARY KEY (credential_id, version)
) {{.Lean}};
