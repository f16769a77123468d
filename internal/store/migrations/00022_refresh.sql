-- Where the refreshing of an OAuth credential stands; without a row it is ready. generation is the version of the credential that the row
-- speaks of, mark a keyed MAC over its refresh token: a version with another token ends what the row says, one with the same does not. A claim
-- is the right to call the token endpoint; claim_id stays behind when the call's fate is unknown, so that its holder can still bring the answer.
CREATE TABLE oauth_connections (
	credential_id TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
	generation    BIGINT NOT NULL,
	mark          {{.Blob}} NOT NULL,
	state         TEXT NOT NULL CHECK (state IN ('ready', 'claimed', 'recovering', 'failing', 'uncertain', 'needs_login')),
	health        TEXT NOT NULL CHECK (health IN ('healthy', 'refresh_failing', 'refresh_uncertain', 'needs_login')),
	claim_id      TEXT NOT NULL,
	claim_until   BIGINT NOT NULL,
	attempts      BIGINT NOT NULL,
	attempted_at  BIGINT NOT NULL,
	first_at      BIGINT NOT NULL,
	cool_until    BIGINT NOT NULL,
	safe_at       BIGINT NOT NULL,
	rejected_at   BIGINT NOT NULL,
	failures      BIGINT NOT NULL,
	code          TEXT NOT NULL,
	refreshed_at  BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL
);
CREATE INDEX oauth_connections_claims ON oauth_connections (claim_until) WHERE state IN ('claimed', 'recovering');
CREATE INDEX oauth_connections_lost ON oauth_connections (credential_id) WHERE state = 'needs_login';

-- Versions that a refresh has made. All but the last few are dropped: their tokens are spent.
ALTER TABLE credential_versions ADD COLUMN refreshed BIGINT NOT NULL DEFAULT 0;
