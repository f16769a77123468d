{{if .Postgres}}
CREATE FUNCTION signalbox_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'audit records are immutable'; END $$;

CREATE TABLE changes (
	id      TEXT PRIMARY KEY,
	xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
	at      BIGINT NOT NULL,
	topic   TEXT NOT NULL,
	subject TEXT NOT NULL
);
CREATE INDEX changes_xid ON changes (xid);
CREATE INDEX changes_at ON changes (at);
{{end}}
CREATE TABLE elections (
	name   TEXT PRIMARY KEY,
	holder TEXT NOT NULL,
	epoch  BIGINT NOT NULL,
	until  BIGINT NOT NULL
);

CREATE TABLE audit_events (
	id           TEXT PRIMARY KEY,
	at           BIGINT NOT NULL,
	action       TEXT NOT NULL,
	actor_id     TEXT NOT NULL,
	target_id    TEXT NOT NULL,
	on_behalf_of TEXT NOT NULL,
	request_id   TEXT NOT NULL,
	body         {{.Blob}} NOT NULL
);
CREATE INDEX audit_events_actor ON audit_events (actor_id, id);
CREATE INDEX audit_events_target ON audit_events (target_id, id);
CREATE INDEX audit_events_action ON audit_events (action, id);

CREATE TABLE audit_batches (
	id    TEXT PRIMARY KEY,
	at    BIGINT NOT NULL,
	count BIGINT NOT NULL,
	body  {{.Blob}} NOT NULL
);

CREATE TABLE audit_pending (
	source_id TEXT PRIMARY KEY
) {{.Lean}};

CREATE TABLE audit_refs (
	subject TEXT NOT NULL,
	minute  BIGINT NOT NULL,
	PRIMARY KEY (subject, minute)
) {{.Lean}};

CREATE TABLE audit_leaves (
	first_leaf BIGINT PRIMARY KEY,
	count      BIGINT NOT NULL,
	source_id  TEXT NOT NULL UNIQUE,
	hashes     {{.Blob}} NOT NULL
);

CREATE TABLE audit_nodes (
	level BIGINT NOT NULL,
	idx   BIGINT NOT NULL,
	hash  {{.Blob}} NOT NULL,
	PRIMARY KEY (level, idx)
) {{.Lean}};

CREATE TABLE audit_checkpoints (
	size BIGINT PRIMARY KEY,
	at   BIGINT NOT NULL,
	note TEXT NOT NULL
);

CREATE TABLE audit_signers (
	id         TEXT PRIMARY KEY,
	verifier   TEXT NOT NULL,
	sealed     {{.Blob}} NOT NULL,
	created_at BIGINT NOT NULL
);

{{.Immutable "audit_events"}}
{{.Immutable "audit_batches"}}
{{.Immutable "audit_leaves"}}
{{.Immutable "audit_nodes"}}
{{.Immutable "audit_refs"}}
{{.Immutable "audit_checkpoints"}}
{{.Immutable "audit_signers"}}
