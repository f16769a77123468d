// Runs the npm package oidc-provider, unmodified, as an OAuth server that rotates refresh tokens and revokes the whole grant when one is used
// twice. Its own development pages ask for the login and for consent. It stands behind an address that the test names, and tells what it did.
import http from "node:http";
import { Provider } from "oidc-provider";

const { issuer, lifetime, secret, redirects } = JSON.parse(process.env.OAUTH_SERVER);
const flows = ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"];
const shape = { redirect_uris: redirects, response_types: ["code"], grant_types: flows };
const scope = "files:read files:write";

const provider = new Provider(issuer, {
  clients: [
    { ...shape, client_id: "confidential", client_secret: secret, token_endpoint_auth_method: "client_secret_basic" },
    { ...shape, client_id: "posting", client_secret: secret, token_endpoint_auth_method: "client_secret_post" },
    { ...shape, client_id: "public", token_endpoint_auth_method: "none", application_type: "native" },
    { client_id: "machine", client_secret: secret, redirect_uris: [], response_types: [], grant_types: ["client_credentials"] },
  ],
  scopes: ["openid", "offline_access", ...scope.split(" ")],
  cookies: { keys: ["not a secret of anybody"] },
  pkce: { required: () => true },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  expiresWithSession: () => false,
  rotateRefreshToken: () => true,
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600, DeviceCode: 600, AuthorizationCode: 60, IdToken: 600 },
  features: {
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({ scope, audience: resource, accessTokenTTL: lifetime, accessTokenFormat: "opaque" }),
    },
  },
});

// What happened, by grant: the provider's own events, and its answers to the token endpoint.
const grants = new Map();
const grantOf = new Map(); // by refresh token
const total = { calls: 0, refreshes: 0 };
const of = (id) => grants.get(id) ?? grants.set(id, { calls: 0, refreshes: 0, reuses: 0, refused: 0, revoked: false }).get(id);
const presented = (ctx) => ctx.oidc?.params?.refresh_token;
const grant = (ctx) => grantOf.get(presented(ctx)) ?? ctx.oidc?.entities?.Grant?.jti;
provider.on("grant.revoked", (_, id) => (of(id).revoked = true));
provider.on("grant.error", (ctx, err) => {
  if (grant(ctx) && err.error_detail === "refresh token already used") of(grant(ctx)).reuses++;
});
provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route !== "token") return;
  total.calls++;
  const refreshes = ctx.oidc.params?.grant_type === "refresh_token";
  if (refreshes && ctx.status === 200) total.refreshes++;
  const id = grant(ctx);
  if (!id) return;
  of(id).calls++;
  if (ctx.status !== 200) of(id).refused++;
  else if (refreshes) of(id).refreshes++;
  if (ctx.body?.refresh_token) grantOf.set(ctx.body.refresh_token, id);
});

const answer = provider.callback();
const server = http.createServer((req, res) => {
  if (req.url !== "/.counts") return answer(req, res);
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ ...total, grants: Object.fromEntries(grants) }));
});
server.listen(0, "127.0.0.1", () => console.log(`READY http://127.0.0.1:${server.address().port}`));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0)); // with the test
