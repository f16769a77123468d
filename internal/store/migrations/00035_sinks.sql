-- Where the audit log is sent: its records, or the checkpoints that vouch for them. What is sealed is one JSON object of all secret fields, bound to the
-- row, its version and the place where the secrets are sent.
CREATE TABLE audit_sinks (
	id             TEXT PRIMARY KEY,
	kind           TEXT NOT NULL CHECK (kind IN ('webhook', 'slack', 'syslog')),
	carries        TEXT NOT NULL CHECK (carries IN ('records', 'checkpoints')),
	name           TEXT NOT NULL UNIQUE,
	enabled        BIGINT NOT NULL,
	settings       TEXT NOT NULL,
	secret_fields  TEXT NOT NULL,
	secret_version BIGINT NOT NULL,
	sealed         {{.Blob}} NOT NULL,
	created_at     BIGINT NOT NULL,
	updated_at     BIGINT NOT NULL,
	revision       BIGINT NOT NULL
);

-- How far each is: all leaves before position were taken by the receiver, or the checkpoint of that size was. One instance sends at a time, the holder of
-- the epoch.
CREATE TABLE audit_sink_cursors (
	sink_id  TEXT PRIMARY KEY REFERENCES audit_sinks (id) ON DELETE CASCADE,
	position BIGINT NOT NULL,
	holder   TEXT NOT NULL,
	epoch    BIGINT NOT NULL,
	until    BIGINT NOT NULL,
	failures BIGINT NOT NULL,
	next_at  BIGINT NOT NULL,
	detail   TEXT NOT NULL,
	sent_at  BIGINT NOT NULL
) {{.Lean}};

{{.Fence "audit_sinks" "sealed" 2}}
