-- Whether an account is lent: '' as usual, 'paused' not at all, 'drained' to no new request. Anything else is taken for paused. Since when, by whom and why
-- is shown to people; the state itself is in the credential's MAC.
ALTER TABLE credentials ADD COLUMN lending TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN lending_reason TEXT NOT NULL DEFAULT '' CHECK (length(lending_reason) <= 500);
ALTER TABLE credentials ADD COLUMN lending_by TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN lending_since BIGINT;
