-- How a credential goes into a request that is sent with it, and which methods and paths that may have: '' is the type's own way, '[]' admits all. They
-- are in the credential's MAC.
ALTER TABLE credentials ADD COLUMN inject_kind TEXT NOT NULL DEFAULT '' CHECK (length(inject_kind) <= 32);
ALTER TABLE credentials ADD COLUMN inject_name TEXT NOT NULL DEFAULT '' CHECK (length(inject_name) <= 100);
ALTER TABLE credentials ADD COLUMN methods TEXT NOT NULL DEFAULT '[]';
ALTER TABLE credentials ADD COLUMN paths TEXT NOT NULL DEFAULT '[]';
