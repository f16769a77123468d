-- A keyed MAC over what decides where and how a credential's secret goes. NULL is a MAC that does not fit: such a credential is not lent until
-- somebody who may write credentials has set its destinations anew. No step gives the rows that are here a MAC by itself: whoever can write the
-- database could make it look as it did before this step.
ALTER TABLE credentials ADD COLUMN binding {{.Blob}};
