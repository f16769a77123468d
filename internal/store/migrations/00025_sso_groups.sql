-- Membership that providers of single sign-on give. group_members stays what is asked for what somebody may do: a row there is by hand, or there is
-- a row here for each provider that gives it, or both.
CREATE TABLE sso_memberships (
	user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	group_id    TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
	provider_id TEXT NOT NULL REFERENCES sso_providers (id) ON DELETE CASCADE,
	added_at    BIGINT NOT NULL,
	PRIMARY KEY (user_id, group_id, provider_id)
) {{.Lean}};
CREATE INDEX sso_memberships_group ON sso_memberships (group_id, user_id);
CREATE INDEX sso_memberships_provider ON sso_memberships (provider_id, group_id);

ALTER TABLE group_members ADD COLUMN by_hand BIGINT NOT NULL DEFAULT 1;
