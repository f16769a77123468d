-- A train has at most one channel of a kind, and what is told of a train or of a credential that it links finds its channels by this.
CREATE UNIQUE INDEX notify_channels_train ON notify_channels (train_id, kind) WHERE train_id IS NOT NULL;
