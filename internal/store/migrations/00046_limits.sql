-- What may be used, as internal/quota writes it; '' for no limits.
ALTER TABLE trains ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE client_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN limits TEXT NOT NULL DEFAULT '';

-- What was used by trains, client keys and people with limits, as internal/quota counts it. Rows of what is gone go when nothing has counted there for long.
CREATE TABLE quota_counts (
	subject TEXT PRIMARY KEY,
	state   {{.Blob}} NOT NULL,
	at      BIGINT NOT NULL
) {{.Lean}};

-- The instances at which requests with a limit of requests at once are under way. What stands in the counts for one that has not been seen for long stands no more.
CREATE TABLE quota_instances (
	id      TEXT PRIMARY KEY,
	seen_at BIGINT NOT NULL
) {{.Lean}};
