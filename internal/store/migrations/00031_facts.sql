-- What may be read of a version's secret without giving it away, as JSON; '' where nothing is known. A version that an older Signalbox has stored has
-- none until the next one is stored: nothing is decrypted for it.
ALTER TABLE credential_versions ADD COLUMN facts TEXT NOT NULL DEFAULT '';
