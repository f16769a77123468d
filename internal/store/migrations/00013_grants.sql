-- Who may use, reveal or manage what: one row a grantee and scope. The scope is a credential, or a client or service whose credentials
-- inherit the grant. The grantee stands twice: grantee_id is what is looked for, the other column lets the row go with its grantee.
-- People are deactivated and never deleted.
CREATE TABLE grants (
	scope              TEXT NOT NULL CHECK (scope IN ('credential', 'client', 'service')),
	scope_id           TEXT NOT NULL CHECK (length(scope_id) BETWEEN 1 AND 100),
	grantee_id         TEXT NOT NULL,
	user_id            TEXT,
	group_id           TEXT REFERENCES user_groups (id) ON DELETE CASCADE,
	train_id           TEXT REFERENCES trains (id) ON DELETE CASCADE,
	service_account_id TEXT REFERENCES service_accounts (id) ON DELETE CASCADE,
	may_use            BIGINT NOT NULL,
	may_reveal         BIGINT NOT NULL,
	may_manage         BIGINT NOT NULL,
	owner              BIGINT NOT NULL,
	granted_by         TEXT NOT NULL,
	granted_at         BIGINT NOT NULL,
	PRIMARY KEY (scope, scope_id, grantee_id),
	CHECK (grantee_id = COALESCE(user_id, group_id, train_id, service_account_id)),
	CHECK (may_use + may_reveal + may_manage > 0),
	CHECK (owner = 0 OR scope = 'credential' AND may_use + may_reveal + may_manage = 3)
);
CREATE INDEX grants_grantee ON grants (grantee_id, scope, scope_id);

-- What a client or a service has, in the order of lists.
CREATE INDEX credentials_of_client ON credentials (client_id, id) WHERE client_id <> '';
CREATE INDEX credentials_of_service ON credentials (service_id, id) WHERE service_id <> '';
