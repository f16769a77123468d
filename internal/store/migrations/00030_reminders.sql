-- Which reminders of an expiry or of a rotation people have had: one row a credential, a date and what it is about, with the last step that was told.
-- Steps are days before the date and fall: 30, 14, 7, 1, 0 on the day, -1 overdue.
CREATE TABLE credential_reminders (
	credential_id TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	about         TEXT NOT NULL CHECK (about IN ('expiry', 'rotation')),
	due_at        BIGINT NOT NULL,
	step          BIGINT NOT NULL,
	told_at       BIGINT NOT NULL,
	PRIMARY KEY (credential_id, about, due_at)
) {{.Lean}};

-- What ends or is to be rotated, in the order of the dates.
CREATE INDEX credentials_expiry ON credentials (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX credentials_rotation ON credentials ((COALESCE(last_rotated_at, created_at) + rotate_every_days * 86400000000)) WHERE rotate_every_days > 0;
