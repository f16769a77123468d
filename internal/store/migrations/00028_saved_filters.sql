-- Filters of lists that a person keeps under a name. list says of which list, query is the filter as an address has it; folded is the name in lower
-- case, lowered by the program because the engines lower text differently.
CREATE TABLE saved_filters (
	id         TEXT PRIMARY KEY,
	user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	list       TEXT NOT NULL,
	name       TEXT NOT NULL,
	folded     TEXT NOT NULL,
	query      TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	UNIQUE (user_id, list, folded)
);
