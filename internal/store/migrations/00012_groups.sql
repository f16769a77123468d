-- Groups of people. folded is the name in lower case, lowered by the program because the engines lower text differently.
CREATE TABLE user_groups (
	id          TEXT PRIMARY KEY,
	name        TEXT NOT NULL,
	folded      TEXT NOT NULL UNIQUE,
	description TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);

CREATE TABLE group_members (
	user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
	added_at BIGINT NOT NULL,
	PRIMARY KEY (user_id, group_id)
) {{.Lean}};
CREATE INDEX group_members_group ON group_members (group_id, user_id);

-- Callers that are no person. They have no password; their tokens are in the table of all tokens.
CREATE TABLE service_accounts (
	id          TEXT PRIMARY KEY,
	name        TEXT NOT NULL,
	folded      TEXT NOT NULL UNIQUE,
	description TEXT NOT NULL,
	role        TEXT NOT NULL,
	active      BIGINT NOT NULL,
	created_by  TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);

-- A token belongs to a person or to a service account.
{{if .Postgres}}
ALTER TABLE tokens ALTER COLUMN user_id DROP NOT NULL;
ALTER TABLE tokens ADD COLUMN service_account_id TEXT REFERENCES service_accounts (id) ON DELETE CASCADE;
ALTER TABLE tokens ADD CHECK ((user_id IS NULL) <> (service_account_id IS NULL));
{{else}}
DROP INDEX tokens_user;
ALTER TABLE tokens RENAME TO tokens_of_people;
CREATE TABLE tokens (
	id                 TEXT PRIMARY KEY,
	user_id            TEXT REFERENCES users (id) ON DELETE CASCADE,
	service_account_id TEXT REFERENCES service_accounts (id) ON DELETE CASCADE,
	name               TEXT NOT NULL,
	preview            TEXT NOT NULL,
	hash               {{.Blob}} NOT NULL UNIQUE,
	scopes             TEXT NOT NULL,
	created_at         BIGINT NOT NULL,
	last_used_at       BIGINT,
	expires_at         BIGINT,
	revoked_at         BIGINT,
	CHECK ((user_id IS NULL) <> (service_account_id IS NULL))
);
INSERT INTO tokens (id, user_id, name, preview, hash, scopes, created_at, last_used_at, expires_at, revoked_at)
	SELECT id, user_id, name, preview, hash, scopes, created_at, last_used_at, expires_at, revoked_at FROM tokens_of_people;
DROP TABLE tokens_of_people;
CREATE INDEX tokens_user ON tokens (user_id, id);
{{end}}
CREATE INDEX tokens_service_account ON tokens (service_account_id, id);
