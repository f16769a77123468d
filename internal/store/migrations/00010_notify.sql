-- Where messages go, and which wait. A channel without a train belongs to the installation. What is sealed is one JSON object of all its
-- secret fields, bound to the row, its version and the place where the secrets are sent.
CREATE TABLE notify_channels (
	id             TEXT PRIMARY KEY,
	train_id       TEXT REFERENCES trains (id) ON DELETE CASCADE,
	kind           TEXT NOT NULL CHECK (kind IN ('slack', 'webhook', 'email')),
	name           TEXT NOT NULL,
	enabled        BIGINT NOT NULL,
	severity       TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
	kinds          TEXT NOT NULL,
	settings       TEXT NOT NULL,
	secret_fields  TEXT NOT NULL,
	secret_version BIGINT NOT NULL,
	sealed         {{.Blob}} NOT NULL,
	hold_until     BIGINT NOT NULL,
	created_at     BIGINT NOT NULL,
	updated_at     BIGINT NOT NULL,
	revision       BIGINT NOT NULL
);
CREATE UNIQUE INDEX notify_channels_name ON notify_channels (COALESCE(train_id, ''), name);

CREATE TABLE notify_messages (
	id         TEXT PRIMARY KEY,
	kind       TEXT NOT NULL,
	severity   TEXT NOT NULL,
	title      TEXT NOT NULL,
	body       TEXT NOT NULL,
	repeats    BIGINT NOT NULL,
	last_at    BIGINT NOT NULL,
	created_at BIGINT NOT NULL
);
CREATE INDEX notify_messages_age ON notify_messages (created_at);

CREATE TABLE notify_marks (
	kind       TEXT NOT NULL,
	dedup_key  TEXT NOT NULL,
	message_id TEXT NOT NULL,
	until      BIGINT NOT NULL,
	PRIMARY KEY (kind, dedup_key)
) {{.Lean}};

CREATE TABLE notify_deliveries (
	id          TEXT PRIMARY KEY,
	message_id  TEXT NOT NULL REFERENCES notify_messages (id) ON DELETE CASCADE,
	channel_id  TEXT NOT NULL REFERENCES notify_channels (id) ON DELETE CASCADE,
	state       TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
	attempts    BIGINT NOT NULL,
	next_at     BIGINT NOT NULL,
	holder      TEXT NOT NULL,
	epoch       BIGINT NOT NULL,
	claim_until BIGINT NOT NULL,
	detail      TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	settled_at  BIGINT
);
CREATE INDEX notify_deliveries_waiting ON notify_deliveries (channel_id, next_at) WHERE state = 'waiting';
CREATE INDEX notify_deliveries_channel ON notify_deliveries (channel_id, id);
CREATE INDEX notify_deliveries_message ON notify_deliveries (message_id);
