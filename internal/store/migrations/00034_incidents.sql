-- Security incidents. What they say of things (links) holds a copy of the name and no foreign key, so that it outlives what it names, as the audit does.
CREATE TABLE incidents (
	id            TEXT PRIMARY KEY,
	title         TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
	incident_type TEXT NOT NULL,
	severity      TEXT NOT NULL,
	status        TEXT NOT NULL,
	description   TEXT NOT NULL CHECK (length(description) <= 20000),
	findings      TEXT NOT NULL CHECK (length(findings) <= 20000),
	remediation   TEXT NOT NULL CHECK (length(remediation) <= 20000),
	search        TEXT NOT NULL,
	-- What a detector reports again and again is one open incident: '<detector> <subject>', NULL for what people opened.
	dedup         TEXT,
	repeats       BIGINT NOT NULL,
	last_seen_at  BIGINT,
	incident_at   BIGINT NOT NULL,
	resolved_at   BIGINT,
	revision      BIGINT NOT NULL,
	created_at    BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL
);
CREATE UNIQUE INDEX incidents_dedup ON incidents (dedup) WHERE dedup IS NOT NULL AND status <> 'resolved';
CREATE INDEX incidents_status ON incidents (status, id);

CREATE TABLE incident_links (
	incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
	kind        TEXT NOT NULL,
	target_id   TEXT NOT NULL,
	name        TEXT NOT NULL,
	PRIMARY KEY (incident_id, kind, target_id)
) {{.Lean}};
CREATE INDEX incident_links_target ON incident_links (target_id, kind, incident_id);

CREATE TABLE incident_timeline (
	id          TEXT PRIMARY KEY,
	incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
	at          BIGINT NOT NULL,
	kind        TEXT NOT NULL,
	actor_kind  TEXT NOT NULL,
	actor_id    TEXT NOT NULL,
	actor_name  TEXT NOT NULL,
	text        TEXT NOT NULL CHECK (length(text) <= 4000),
	details     TEXT NOT NULL
);
CREATE INDEX incident_timeline_of ON incident_timeline (incident_id, id);

-- Grants that are still to be ended at their OAuth providers, since an incident was contained. A row goes when that is settled.
CREATE TABLE incident_revocations (
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
CREATE INDEX incident_revocations_next ON incident_revocations (next_at);
