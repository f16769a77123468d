-- The session that a client key ends with; '' for one that stands alone.
ALTER TABLE client_keys ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
CREATE INDEX client_keys_session ON client_keys (session_id) WHERE session_id <> '';
