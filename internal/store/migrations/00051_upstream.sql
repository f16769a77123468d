-- How an account's requests go out: 0 and '' are the server's own. The password for the proxy is a secret field. CA bundle, proxy and user name are in the
-- credential's MAC; the times decide nothing about where a secret goes.
ALTER TABLE credentials ADD COLUMN upstream_connect_timeout BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN upstream_response_timeout BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN upstream_ca_bundle TEXT NOT NULL DEFAULT '' CHECK (length(upstream_ca_bundle) <= 32768);
ALTER TABLE credentials ADD COLUMN upstream_proxy_url TEXT NOT NULL DEFAULT '' CHECK (length(upstream_proxy_url) <= 2048);
ALTER TABLE credentials ADD COLUMN upstream_proxy_username TEXT NOT NULL DEFAULT '' CHECK (length(upstream_proxy_username) <= 255);

-- The account of a train that is tried before all others, whatever its strategy. It is part of the link, and goes with it.
ALTER TABLE train_links ADD COLUMN is_default BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX train_links_default ON train_links (train_id) WHERE is_default = 1;
