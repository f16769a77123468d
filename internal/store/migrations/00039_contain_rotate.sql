-- Since when a credential is to be rotated at once, whatever its plan says: it was contained. A new secret takes it back.
ALTER TABLE credentials ADD COLUMN rotate_at BIGINT;

-- What a containment owes: the end of a grant at its provider, or new tokens in the place of those that leaked.
ALTER TABLE incident_revocations ADD COLUMN act TEXT NOT NULL DEFAULT 'revoke_upstream' CHECK (act IN ('revoke_upstream', 'refresh'));
