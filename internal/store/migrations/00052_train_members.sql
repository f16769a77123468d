-- Who reaches a train: everybody whose role does, or its members alone. A member stands twice, as in the table of grants: member_id is what is looked for, the other column
-- lets the row go with its group. People are deactivated and never deleted.
ALTER TABLE trains ADD COLUMN visibility TEXT NOT NULL DEFAULT 'organisation' CHECK (visibility IN ('organisation', 'private'));
CREATE INDEX trains_private ON trains (id) WHERE visibility <> 'organisation';

CREATE TABLE train_members (
	train_id   TEXT NOT NULL REFERENCES trains (id) ON DELETE CASCADE,
	member_id  TEXT NOT NULL,
	user_id    TEXT,
	group_id   TEXT REFERENCES user_groups (id) ON DELETE CASCADE,
	role       TEXT NOT NULL CHECK (role IN ('owner', 'member')),
	created_at BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	PRIMARY KEY (train_id, member_id),
	CHECK (member_id = COALESCE(user_id, group_id))
);
CREATE INDEX train_members_member ON train_members (member_id, train_id);
CREATE INDEX train_members_group ON train_members (group_id) WHERE group_id IS NOT NULL;

-- Which deleted trains were private. What is kept of a train that is gone (sums of usage, incidents) must not become readable by its end.
CREATE TABLE private_trains_gone (
	train_id   TEXT PRIMARY KEY,
	deleted_at BIGINT NOT NULL
);
