-- Codes by which the command line gets a session of its own: made by a person at a page, spent by the program that began it. hash is the code's,
-- challenge the SHA-256 of what only that program knows; port is where the browser took the code, 0 for one that is pasted.
CREATE TABLE login_codes (
	hash       {{.Blob}} PRIMARY KEY,
	session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	challenge  {{.Blob}} NOT NULL,
	port       BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX login_codes_session ON login_codes (session_id);
