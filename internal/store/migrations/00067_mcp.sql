-- MCP servers, each by the slug by which callers name it. Connections to a server that nobody has registered are stored all the same.
CREATE TABLE mcp_servers (
	id         TEXT PRIMARY KEY,
	slug       TEXT NOT NULL UNIQUE,
	name       TEXT NOT NULL,
	url        TEXT NOT NULL,
	auth       TEXT NOT NULL,
	active     BIGINT NOT NULL,
	revision   BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);

-- Whose tokens go to which server: one credential a subject and server. What is barred keeps its row when its credential goes, so that
-- nobody comes back by depositing anew what somebody else has stopped.
CREATE TABLE mcp_connections (
	id            TEXT PRIMARY KEY,
	subject       TEXT NOT NULL,
	server        TEXT NOT NULL,
	credential_id TEXT UNIQUE REFERENCES credentials (id) ON DELETE SET NULL,
	barred        TEXT NOT NULL,
	created_at    BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL,
	UNIQUE (subject, server)
);
