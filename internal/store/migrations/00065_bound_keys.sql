-- Whether a client key ends with its maker's way to its train: it was made by way of a membership, or on a private train. Of what was made before only the train tells.
ALTER TABLE client_keys ADD COLUMN bound BIGINT NOT NULL DEFAULT 0;
UPDATE client_keys SET bound = 1 WHERE train_id IN (SELECT id FROM trains WHERE visibility <> 'organisation');
