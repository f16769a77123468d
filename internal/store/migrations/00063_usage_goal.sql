-- How long the log was when the sums were begun anew: until they have come so far, they are not the sums of all that was, and say so.
ALTER TABLE usage_follower ADD COLUMN goal BIGINT NOT NULL DEFAULT 0;
